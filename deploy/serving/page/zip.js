"use strict";
// A ZIP file of what is compressed already (APPNOTE 6.3.10: stored entries, names in UTF-8).

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC_TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// Fields of two and four bytes, little-endian: [value, bytes] each.
function packed(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [, bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [value, bytes] of fields) {
    if (bytes === 2) view.setUint16(at, value, true); else view.setUint32(at, value, true);
    at += bytes;
  }
  return view.buffer;
}

function dosTime(date) {
  const day = ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
  return [(date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1), day];
}

const ZIP_LIMIT = 0xffffffff;  // bytes; more needs another form of the file, which not everything opens

// `entries` are {name, blob, date}. The pictures are read one after another and not copied.
async function zipFrom(entries) {
  const parts = [], directory = [];
  let offset = 0;
  for (const { name, blob, date } of entries) {
    const title = new TextEncoder().encode(name);
    const [time, day] = dosTime(date);
    const checksum = crc32(new Uint8Array(await blob.arrayBuffer()));
    const shared = [[20, 2], [0x0800, 2], [0, 2], [time, 2], [day, 2], [checksum, 4], [blob.size, 4], [blob.size, 4],
                    [title.length, 2], [0, 2]];
    const head = packed([0x04034b50, 4], ...shared);
    directory.push(packed([0x02014b50, 4], [20, 2], ...shared, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), title);
    parts.push(head, title, blob);
    offset += head.byteLength + title.length + blob.size;
  }
  const length = directory.reduce((sum, part) => sum + part.byteLength, 0);
  if (entries.length > 0xffff || offset + length > ZIP_LIMIT) {
    throw new Error("Together they are too much for one ZIP file (4 GB, 65 535 files). Save them one by one.");
  }
  const count = entries.length;
  const end = packed([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [length, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
