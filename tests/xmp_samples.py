"""XMP as photo software writes it, made by hand after its documentation, and what independent readers find in it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
LR = 'xmlns:lr="http://ns.adobe.com/lightroom/1.0/"'
DIGIKAM_NS = 'xmlns:digiKam="http://www.digikam.org/ns/1.0/"'
BEGIN, END = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'


def bag(*items: str, kind: str = "Bag") -> str:
    """A container of values."""
    inside = "".join(f"\n     <rdf:li>{item}</rdf:li>" for item in items)
    return f"\n    <rdf:{kind}>{inside}\n    </rdf:{kind}>\n   "


DIGIKAM = f"""{BEGIN}
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF {RDF}>
  <rdf:Description rdf:about=""
    {DIGIKAM_NS}
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    {LR}
    xmlns:mediapro="http://ns.iview-multimedia.com/mediapro/1.0/"
    xmlns:acdsee="http://ns.acdsee.com/iptc/1.0/"
    {DC}
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   digiKam:ColorLabel="0"
   digiKam:PickLabel="3"
   acdsee:categories="&lt;Categories&gt;&lt;Category Assigned=&quot;1&quot;&gt;Beach&lt;/Category&gt;"
   xmp:Rating="4">
   <digiKam:TagsList>{bag("Places/Norway/Oslo", "Beach", kind="Seq")}</digiKam:TagsList>
   <MicrosoftPhoto:LastKeywordXMP>{bag("Places/Norway/Oslo", "Beach")}</MicrosoftPhoto:LastKeywordXMP>
   <lr:hierarchicalSubject>{bag("Places|Norway|Oslo", "Beach")}</lr:hierarchicalSubject>
   <mediapro:CatalogSets>{bag("Places|Norway|Oslo", "Beach")}</mediapro:CatalogSets>
   <dc:subject>{bag("Oslo", "Beach")}</dc:subject>
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">At the pier</rdf:li>
    </rdf:Alt>
   </dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
{END}"""

DARKTABLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF {RDF}>
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    {DC}
    {LR}
   exif:DateTimeOriginal="2026:01:02 03:04:05.000"
   xmp:Rating="1"
   xmpMM:DerivedFrom="a.jpg"
   darktable:import_timestamp="63902340000000000"
   darktable:xmp_version="5"
   darktable:history_end="2"
   darktable:auto_presets_applied="1">
   <darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:enabled="1"
      darktable:params="gz02eJxjYGBgYAFiCQYYOOHEgAZY0QWAgBGLGANDgz0Ej1Q+dcF/IADRAGpyHQU="/>
    </rdf:Seq>
   </darktable:history>
   <dc:subject>{bag("Norway", "Oslo", "Places", "changed", "darktable", "format", "jpg")}</dc:subject>
   <lr:hierarchicalSubject>
    {bag("Places|Norway|Oslo", "darktable|changed", "darktable|format|jpg")}
   </lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

LIGHTROOM = f"""{BEGIN}
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000, 0000/00/00-00:00:00        ">
 <rdf:RDF {RDF}>
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    {DC}
    {LR}
   xmp:Rating="5"
   xmp:Label="Red"
   crs:Version="15.4"
   crs:Exposure2012="+0.35">
   <dc:subject>{bag("Norway", "Oslo", "Places")}</dc:subject>
   <lr:hierarchicalSubject>{bag("Places|Norway|Oslo")}</lr:hierarchicalSubject>
   <crs:ToneCurvePV2012>{bag("0, 0", "255, 255", kind="Seq")}</crs:ToneCurvePV2012>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
{" " * 400}
{END}"""

EXIFTOOL = f"""<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF {RDF.replace('"', "'")}>

 <rdf:Description rdf:about=''
  xmlns:digiKam='http://www.digikam.org/ns/1.0/'>
  <digiKam:TagsList>
   <rdf:Seq>
    <rdf:li>Places/Norway/Oslo</rdf:li>
   </rdf:Seq>
  </digiKam:TagsList>
 </rdf:Description>

 <rdf:Description rdf:about=''
  xmlns:tiff='http://ns.adobe.com/tiff/1.0/'>
  <tiff:ImageDescription>
   <rdf:Alt>
    <rdf:li xml:lang='x-default'>from Immich</rdf:li>
   </rdf:Alt>
  </tiff:ImageDescription>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""

SAMPLES = {"digikam": DIGIKAM, "darktable": DARKTABLE, "lightroom": LIGHTROOM, "exiftool": EXIFTOOL}


def run_tool(*command: str | Path) -> str:
    """What an independent program prints; the test is skipped where it is not installed."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def exiftool(path: Path) -> dict[str, Any]:
    """All that ExifTool finds in the XMP of a file, lists as lists."""
    found = json.loads(run_tool("exiftool", "-j", "-G1", "-XMP:all", "-struct", path))[0]
    return {name: value for name, value in found.items() if name.startswith("XMP") and name != "XMP-x:XMPToolkit"}


def exiv2_values(path: Path, name: str) -> list[str]:
    """The values of a property as exiv2 finds them."""
    lines = run_tool("exiv2", "-K", name, "-P", "t", path).splitlines()
    return [value for line in lines for value in line.strip().split(", ")]


KEYWORDS = ("XMP-dc:Subject", "XMP-lr:HierarchicalSubject", "XMP-digiKam:TagsList")


def keywords_of(path: Path) -> list[set[str]]:
    """The keywords in each of the three fields, as ExifTool finds them."""
    found = exiftool(path)
    return [{*values} if isinstance(values := found.get(name, []), list) else {str(values)} for name in KEYWORDS]


def foreign(path: Path) -> dict[str, Any]:
    """What ExifTool finds in XMP beside keywords and labelr's own record."""
    return {name: value for name, value in exiftool(path).items() if name not in KEYWORDS and "labelr" not in name}
