"use strict";
// {width, height} of a file that the browser cannot show, upright, from its first bytes; null where they do not say it.

const HEADER_BYTES = 1 << 17;
const TURNED = [5, 6, 7, 8];  // EXIF orientations whose rows are the columns of the upright picture

const uprightSize = (width, height, isTurned) => (width > 0 && height > 0
  ? { width: isTurned ? height : width, height: isTurned ? width : height } : null);

async function sizeFromHeader(file) {
  try {
    const view = new DataView(await file.slice(0, HEADER_BYTES).arrayBuffer());
    const start = view.getUint32(0);
    if (start === 0x49492a00 || start === 0x4d4d002a) return await sizeOfTiff(file, view);
    if (start >>> 16 === 0xff0a) return sizeOfJxl(view, 2);
    if (view.getUint32(4) === 0x4a584c20) return sizeOfJxlContainer(view);
    if (view.getUint32(4) === 0x66747970) return sizeOfHeif(view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;  // it ends where it should go on
  }
  return null;
}

// TIFF 6.0, section 2: the first directory, which may lie anywhere in the file.
async function sizeOfTiff(file, head) {
  const isLittle = head.getUint8(0) === 0x49;
  const offset = head.getUint32(4, isLittle);
  const view = new DataView(await file.slice(offset, offset + 2 + 12 * 512).arrayBuffer());
  const tags = {};
  for (let entry = 0; entry < view.getUint16(0, isLittle) && entry < 512; entry += 1) {
    const at = 2 + 12 * entry;
    const isShort = view.getUint16(at + 2, isLittle) === 3;
    tags[view.getUint16(at, isLittle)] = isShort ? view.getUint16(at + 8, isLittle) : view.getUint32(at + 8, isLittle);
  }
  return uprightSize(tags[256], tags[257], TURNED.includes(tags[274]));
}

// ISO/IEC 23008-12: each image has its extents in a box `ispe`; the largest is the picture, of which `clap` shows a part
// (its sides are fractions), turned by `irot` quarters.
function sizeOfHeif(view) {
  let [width, height, turns, shown] = [0, 0, 0, null];
  for (let at = 0; at + 16 <= view.byteLength; at += 1) {
    const name = view.getUint32(at);
    if (name === 0x69737065) {
      const [wide, high] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      if (wide * high > width * height) [width, height] = [wide, high];
    } else if (name === 0x636c6170) {
      shown = [at + 4, at + 12].map((side) => Math.round(view.getUint32(side) / view.getUint32(side + 4)));
    } else if (name === 0x69726f74) turns = view.getUint8(at + 4);
  }
  if (shown && shown[0] <= width && shown[1] <= height) [width, height] = shown;
  return uprightSize(width, height, turns % 2 === 1);
}

function sizeOfJxlContainer(view) {
  for (let at = 0; at + 8 <= view.byteLength;) {
    const [bytes, name] = [view.getUint32(at), view.getUint32(at + 4)];
    if (name === 0x6a786c63) return sizeOfJxl(view, at + 10);  // jxlc
    if (name === 0x6a786c70) return sizeOfJxl(view, at + 14);  // jxlp: its number first
    if (bytes < 8) return null;
    at += bytes;
  }
  return null;
}

// ISO/IEC 18181-1, SizeHeader and the beginning of ImageMetadata, which follow the signature.
function sizeOfJxl(view, start) {
  let at = 8 * start;
  const bits = (count) => {
    let value = 0;
    for (let bit = 0; bit < count; bit += 1, at += 1) value += ((view.getUint8(at >> 3) >> (at & 7)) & 1) * 2 ** bit;
    return value;
  };
  const isSmall = bits(1);
  const side = () => (isSmall ? 8 * (bits(5) + 1) : bits([9, 13, 18, 30][bits(2)]) + 1);
  const height = side();
  const ratio = [null, [1, 1], [12, 10], [4, 3], [3, 2], [16, 9], [5, 4], [2, 1]][bits(3)];
  const width = ratio ? Math.floor((height * ratio[0]) / ratio[1]) : side();
  const orientation = !bits(1) && bits(1) ? bits(3) + 1 : 1;
  return uprightSize(width, height, TURNED.includes(orientation));
}
