"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numbers = head.classList.contains("n");
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numbers;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const text = row.cells[column].textContent.replaceAll(",", "").trim();
        return numbers ? (text === "" || text === "–" ? NaN : Number(text)) : text;
      };
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!numbers) return (down ? -1 : 1) * x.localeCompare(y);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return down ? y - x : x - y;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
const show = () => {
  const aim = document.getElementById(location.hash.slice(1));
  const around = aim && aim.closest("details");
  if (around && !around.open) { around.open = true; aim.scrollIntoView(); }
};
addEventListener("hashchange", show);
show();
