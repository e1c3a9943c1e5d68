"use strict";
// The picture that is looked at: alone, or two of its versions under the slider, or a part of it to try.

const latestOf = (picture) => picture.versions.findLast(({ state }) => state === "done") ?? picture.versions.at(-1) ?? null;
const samePart = (one, other) => sameSettings(one.part, other.part);

function select(picture, version = latestOf(picture)) {
  if (picture !== shown) { zoomReset = true; closePart(); }
  if (version !== shownVersion) liked.right = null;
  const before = shown;
  [shown, shownVersion] = [picture, version];
  for (const other of new Set([before, picture])) if (pictures.includes(other)) drawPicture(other);
  planAll();
  drawViewer();
}
let zoomReset = false;
const liked = { left: null, right: null };  // ways that were chosen by hand: left for good, right for this version

// On a narrow screen the list lies below the picture.
function reveal() {
  if (viewer.getBoundingClientRect().bottom < 0 || viewer.getBoundingClientRect().top < -100) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    viewer.scrollIntoView({ block: "start", behavior: calm ? "instant" : "smooth" });
  }
}

async function fetchViews(version) {
  if (version.hasViews) return;
  version.hasViews = true;
  const { picture, id } = version;
  const wanted = { bicubic: "bicubic", ...(picture.isReadable && !version.part ? {} : { input: "input" }) };
  await Promise.all(Object.entries(wanted).map(async ([name, path]) => {
    try {
      version.views[name] = URL.createObjectURL(await server.blob(`v1/jobs/${id}/${path}`));
    } catch (error) { lost(error); }  // expired: the slider goes without
  }));
  if (version === shownVersion) drawViewer();
}

function comparison(version) {
  const { picture, size: { width, height }, views } = version;
  const make = (way, title, src, figures) => ({ way, title, src, figures, width, height, alt: `${picture.name}, ${title}` });
  const whole = version.part ?? picture.size;
  const ways = [];
  const input = views.input ?? (picture.isReadable && !version.part ? picture.address : null);
  if (input) ways.push(make("input", "Input", input, whole ? `${sizeText(whole.width, whole.height)}, pixels repeated` : "pixels repeated"));
  if (views.bicubic) ways.push(make("bicubic", "Bicubic", views.bicubic, ""));
  for (const other of picture.versions) {
    if (other.state !== "done" || !samePart(other, version)) continue;
    ways.push(make(`v${other.id}`, other.title, other.view, `${sizeText(other.size.width, other.size.height)}${other.note ? `, ${other.note}` : ""}`));
  }
  return ways;
}

let drawnKey = "";
function drawViewer() {
  if (!shown || !offer) return;
  const version = shownVersion;
  const isCompared = version?.state === "done" && !crop.part();
  by("shown-name").textContent = shown.name;
  drawFacts();
  viewer.classList.toggle("single", !isCompared);
  const isOpen = version && !OVER.includes(version.state) && !crop.part();
  const single = isCompared ? null : (isOpen && version.preview) || (shown.isReadable ? shown.address : null);
  const isSeen = isCompared || Boolean(single);
  by("unseen-picture").hidden = isSeen;
  by("unseen-picture").textContent = shown.isReadable === null ? ""
    : "The browser does not show this format. The result can be seen once it is made.";
  slider.pair.hidden = !isSeen;
  slider.stage.tabIndex = isCompared ? -1 : 0;
  by("try-part").disabled = !shown.isReadable || Boolean(shown.trouble);
  const settings = settingsNow();
  by("only-this").hidden = pictures.length < 2;
  by("only-this").disabled = typeof settings === "string" || Boolean(shown.trouble) || isMade(shown, settings);
  if (isCompared) {
    fetchViews(version);
    const ways = comparison(version);
    const has = (name) => ways.some(({ way }) => way === name);
    const own = `v${version.id}`;
    const left = [liked.left, "bicubic", "input"].find((way) => way && has(way) && way !== own) ?? ways[0].way;
    show(ways, { left, right: has(liked.right) ? liked.right : own });
  } else {
    // As large as the result, so that nothing jumps when that is there.
    const forecast = !crop.part() && offer ? forecastOf(shown, version?.settings ?? settings, version?.part) : null;
    const isPart = Boolean(version?.part) && single !== shown.address;
    const { width, height } = (isPart || !version?.part ? version?.size ?? (forecast?.width ? forecast : null) : null)
      ?? shown.size ?? { width: 4, height: 3 };
    const title = isSeen ? shown.name : "";
    show([{ way: "single", title, src: single || "", alt: title, figures: "", width, height }], { left: "single", right: "single" });
  }
  if (zoomReset) { zoomReset = false; zoom.reset(); }
}

// Only what is new: a list that somebody has open stays open.
function show(ways, usual) {
  const key = JSON.stringify([ways, usual]);
  if (key === drawnKey) return;
  drawnKey = key;
  for (const select of viewer.querySelectorAll(".choices select")) select.replaceChildren();
  slider.show(ways, usual);
}

function drawFacts() {
  if (!shown) return;
  const version = shownVersion;
  const isOpen = version && !OVER.includes(version.state);
  by("shown-facts").textContent = crop.part() || !version ? factsOf(shown)
    : version.state === "failed" ? `${version.title}: ${version.note}`
    : [version.title, version.size && sizeText(version.size.width, version.size.height), isOpen || version.state === "done" ? version.note : version.state]
      .filter(Boolean).join(", ");
  by("shown-facts").classList.toggle("wrong", version?.state === "failed" && !crop.part());
}

function openPart() {
  if (!shown?.isReadable) return;
  by("part").hidden = false;
  by("try-part").setAttribute("aria-expanded", "true");
  crop.open(shown.size, shown.lastPart);
  zoom.reset();
  drawViewer();
  slider.pair.querySelector(".crop").focus({ preventScroll: true });
}

function closePart() {
  if (by("part").hidden) return;
  if (shown) shown.lastPart = crop.part();
  crop.close();
  by("part").hidden = true;
  by("try-part").setAttribute("aria-expanded", "false");
  drawViewer();
  zoom.place();
}

function planPart() {
  const part = crop.part();
  if (!part || !shown?.size || !offer) return;
  const settings = settingsNow();
  const forecast = forecastOf(shown, settings, part);
  by("start-part").disabled = typeof settings === "string" || Boolean(forecast?.trouble);
  const time = forecast && Number.isFinite(forecast.seconds) ? `, ${aboutText(forecast.seconds)}` : "";
  by("part-plan").textContent = typeof settings === "string" ? settings : forecast?.trouble
    ?? (forecast ? `${sizeText(part.width, part.height)} → ${sizeText(forecast.width, forecast.height)}${time}` : sizeText(part.width, part.height));
}

