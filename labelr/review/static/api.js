/** Requests to the server, and the queue through which everything is saved: in order, one at a time, until it is saved. */

export class Refused extends Error {
  constructor(status, { error, hint }) {
    super([error, hint].filter(Boolean).join("; "));
    this.status = status;
  }
}

async function request(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  const body = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

export const get = (path, parameters = {}) => {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== "");
  return request(`${path}?${new URLSearchParams(given)}`);
};

const post = (path, body) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** What is to be saved. Answers that cannot be saved now stay here, and are sent again until they are. */
export const queue = {
  entries: [],
  problem: "", // why the first entry is not saved yet
  running: false,
  listener: () => {}, // called when there is something new to say about saving
  retry: () => {}, // sends again now what waits for another attempt

  /** Saves a change after all earlier ones; resolves to the response. */
  push(path, body) {
    return new Promise((resolve, reject) => {
      this.entries.push({ path, body, resolve, reject });
      this.listener();
      if (!this.running) this.run();
    });
  },

  /** The answers that are not saved yet. */
  answers() {
    return this.entries.flatMap(({ body }) => body.answers ?? []);
  },

  async run() {
    this.running = true;
    for (let delay = 500; this.entries.length; ) {
      const { path, body, resolve, reject } = this.entries[0];
      const [saved, error] = await post(path, body).then((response) => [response], (reason) => [null, reason]);
      const later = error && (!(error instanceof Refused) || error.status >= 500 || [403, 409, 429].includes(error.status));
      if (later && body.answers) {
        this.problem = error instanceof Refused ? error.message : "the server does not answer";
        this.listener();
        await new Promise((wake) => { this.retry = wake; setTimeout(wake, delay); });
        delay = Math.min(2 * delay, 5000);
        continue;
      }
      this.entries.shift();
      [this.problem, delay] = ["", 500];
      if (error) reject(error);
      else resolve(saved);
      this.listener();
    }
    this.running = false;
  },
};
