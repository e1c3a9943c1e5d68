"use strict";
// How the page says numbers, and elements made in one call.

const newElement = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

const countOf = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

const sizeText = (width, height) => `${width}\u2009×\u2009${height}`;

function timeText(seconds) {
  if (seconds < 1) return "under a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const aboutText = (seconds) => `${seconds < 1 ? "" : "about "}${timeText(seconds)}`;

function bytesText(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${Number((bytes / 1e6).toPrecision(3))} MB` : `${Number((bytes / 1e9).toPrecision(3))} GB`;
}

const megapixels = (pixels) => `${Number((pixels / 1e6).toPrecision(2))} megapixels`;
