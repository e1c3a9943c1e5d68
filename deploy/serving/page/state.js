"use strict";
// What the page knows. A picture is a file of the user with the versions that were asked of it; a version is one job.

const by = (id) => document.getElementById(id);
const viewer = by("viewer");
const slider = newSlider(viewer, () => zoom?.place());
const zoom = newZoom(slider, [...viewer.querySelectorAll("button.zoom")]);
const partFields = { x: by("part-x"), y: by("part-y"), width: by("part-width"), height: by("part-height") };
const crop = newCrop(slider, partFields, () => planPart());
const server = newServer(askToken);

const AT_ONCE = 2;  // one is made while the next is sent; the server keeps the queue
const OVER = ["done", "failed", "cancelled"];
const LOSSY = ["jpeg", "webp", "avif", "jxl"];
const SUFFIXES = { png: ".png", jpeg: ".jpg", webp: ".webp", tiff: ".tif", bmp: ".bmp", avif: ".avif", jxl: ".jxl", gif: ".gif" };

const pictures = [];
let offer = null;  // what the server has: models, limits, formats
let shown = null, shownVersion = null;
let batch = [];  // versions since nothing was left to do
let isGone = false;
let wish = {};  // what was chosen before, on an earlier visit too

const say = (sentence) => { by("said").textContent = sentence; };
function warn(sentence) {
  by("alarm").textContent = sentence;
  by("alarm").hidden = !sentence;
}
const pause = (seconds, signal) => new Promise((done, stop) => {
  const timer = setTimeout(done, 1000 * seconds);
  signal?.addEventListener("abort", () => { clearTimeout(timer); stop(new DOMException("", "AbortError")); });
});

