"use strict";
// Files out of what was dropped, pasted or chosen, folders with all below them: {file, path} each.

const PICTURE_SUFFIXES = /\.(png|jpe?g|webp|tiff?|bmp|gif|avif|jxl|heic|heif)$/i;

const isPicture = (file) => PICTURE_SUFFIXES.test(file.name) || (file.type.startsWith("image/") && file.type !== "image/svg+xml");

async function filesBelow(entry) {
  if (entry.isFile) {
    const file = await new Promise((found, failed) => entry.file(found, failed));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const entries = [];
  for (;;) {  // a reader gives at most 100 at a time
    const some = await new Promise((found, failed) => reader.readEntries(found, failed));
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  const files = [];
  for (const below of entries) if (!below.name.startsWith(".")) files.push(...await filesBelow(below));
  return files;
}

// To be called while the event runs: what it carries is gone afterwards.
async function filesFromTransfer(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.());
  if (!entries.length || entries.some((entry) => !entry)) {  // a pasted picture has no place in a file system
    return [...transfer.files].map((file) => ({ file, path: file.name }));
  }
  const found = await Promise.all(entries.map(filesBelow));
  return found.flat();
}

const filesFromInput = (input) => [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));

// {width, height} as the browser shows the picture; null where it cannot.
function sizeFromAddress(address) {
  return new Promise((found) => {
    const image = new Image();
    image.onload = () => found(image.naturalWidth ? { width: image.naturalWidth, height: image.naturalHeight } : null);
    image.onerror = () => found(null);
    image.src = address;
  });
}
