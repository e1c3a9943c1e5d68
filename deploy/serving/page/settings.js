"use strict";
// The settings, kept from visit to visit, and what they will cost.

const KEPT = "idm-deploy settings";
const USUAL = { sizing: "4", amount: "6", unit: "scale", preset: null, model: null, format: "", quality: "", seed: "0", more: false };
const recall = () => {
  try { return { ...USUAL, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") }; } catch { return { ...USUAL }; }
};
const modelNow = () => offer?.models.find(({ name }) => name === by("model").value) ?? offer?.models[0];
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value ?? null;

function keepSettings() {
  wish = { sizing: chosen("sizing"), amount: by("amount").value, unit: by("unit").value, preset: chosen("preset") ?? wish.preset,
           model: by("model").value, format: by("format").value, quality: by("quality").value, seed: by("seed").value,
           more: by("more").open };
  try { localStorage.setItem(KEPT, JSON.stringify(wish)); } catch { /* for this visit alone, then */ }
}

function fillSettings() {
  by("model").replaceChildren(...offer.models.map(({ name }) => new Option(name, name)));
  const usual = offer.models.find((model) => model.default) ?? offer.models[0];
  for (const part of [by("model"), document.querySelector('label[for="model"]')]) part.hidden = offer.models.length < 2;
  by("model").value = offer.models.some(({ name }) => name === wish.model) ? wish.model : usual.name;
  by("format").replaceChildren(new Option("as the picture", ""), ...offer.formats.map((name) => new Option(name.toUpperCase(), name)));
  by("format").value = offer.formats.includes(wish.format) ? wish.format : "";
  for (const name of ["amount", "unit", "quality", "seed"]) by(name).value = wish[name];
  by("more").open = Boolean(wish.more);
  const sizing = document.querySelector(`input[name="sizing"][value="${CSS.escape(wish.sizing)}"]`);
  if (sizing) sizing.checked = true;
  fillPresets();
}

function fillPresets() {
  const model = modelNow();
  const work = (name) => model.presets[name].evaluations ?? 0;
  const names = Object.keys(model.presets).sort((one, other) => work(one) - work(other));
  const now = names.includes(wish.preset) ? wish.preset : model.default_preset ?? names[0];
  by("presets").replaceChildren(...names.map((name) => {
    const { title, evaluations } = model.presets[name];
    const input = newElement("input", { type: "radio", name: "preset", value: name, checked: name === now });
    const note = Number.isFinite(evaluations) ? countOf(evaluations, "step") : null;
    return newElement("label", { title: title ?? "" }, input,
      newElement("span", {}, name, note && newElement("small", {}, note)));
  }));
  const facts = [model.name, model.engine, model.precision].filter(Boolean);
  by("about").textContent = `· ${facts.join(" · ")}`;
}

// What is asked of the server for a picture, or a sentence that says what is wrong with the settings.
function settingsNow() {
  settingsRead ??= readSettings();
  return settingsRead;
}
let settingsRead = null;

function readSettings() {
  const sizing = chosen("sizing");
  const isOther = sizing === "other";
  const amount = Number(isOther ? by("amount").value : sizing);
  const unit = isOther ? by("unit").value : "scale";
  if (!(amount >= 1)) return "The size has to be a number from 1.";
  if (unit === "long_edge" && !Number.isInteger(amount)) return "Pixels of the longer side are a whole number.";
  const seed = Number(by("seed").value);
  if (!Number.isInteger(seed) || seed < 0) return "The seed has to be a whole number from 0.";
  const settings = { model: modelNow().name, preset: chosen("preset"), [unit]: amount, seed };
  if (by("format").value) settings.format = by("format").value;
  if (by("quality").value && LOSSY.includes(by("format").value)) {
    const quality = Number(by("quality").value);
    if (!(quality >= 1 && quality <= 100)) return "The quality has to be a number from 1 to 100.";
    settings.quality = quality;
  }
  return settings;
}

const titleOf = ({ settings, part }) => [
  `${settings.scale ? `${settings.scale}×` : `${settings.long_edge} px`} ${settings.preset}`,
  offer.models.length > 1 ? settings.model : null, settings.seed ? `seed ${settings.seed}` : null,
  settings.format?.toUpperCase(), part ? "part" : null,
].filter(Boolean).join(", ");

function settingsChanged() {
  settingsRead = null;
  for (const key of asked.splice(0)) forecasts.delete(key);
  by("other-size").hidden = chosen("sizing") !== "other";
  const isLossy = LOSSY.includes(by("format").value);
  by("quality").hidden = !isLossy;
  document.querySelector('label[for="quality"]').hidden = !isLossy;
  keepSettings();
  for (const picture of pictures) drawPicture(picture);
  planAll();
  planPart();
  drawViewer();
}

const forecasts = new Map();  // by what was asked
const asked = [];
let asking = 0, soon = null;

function question(picture, settings, part) {
  const { model, preset, scale, long_edge } = settings;
  const { width, height } = part ?? picture.size;
  return JSON.stringify({ width, height, model, preset, ...partSettings({ scale, long_edge }, picture, part) });
}

// A part is enlarged as many times as the whole picture would be.
function partSettings({ scale, long_edge, ...others }, picture, part) {
  if (!part || scale) return { ...others, ...(scale ? { scale } : { long_edge }) };
  return { ...others, scale: long_edge / Math.max(picture.size.width, picture.size.height) };
}

// {width, height, seconds} or {trouble}; null while it is not known.
function forecastOf(picture, settings, part = null) {
  if (!picture.size || typeof settings === "string") return null;
  const key = question(picture, settings, part);
  if (!forecasts.has(key) && !isGone) {
    forecasts.set(key, null);
    asked.push(key);
    clearTimeout(soon);
    soon = setTimeout(askForecasts, 150);  // while somebody types, only what stands in the end is asked
  }
  return forecasts.get(key) ?? null;
}

async function askForecasts() {
  while (asking < 2 && asked.length) {
    const key = asked.shift();
    asking += 1;
    server.post("v1/estimate", JSON.parse(key))
      .then((forecast) => forecasts.set(key, forecast), (error) => {
        if (error.isGone || error.status === 429) { forecasts.delete(key); lost(error); }
        else forecasts.set(key, { trouble: error.message });
      })
      .finally(() => { asking -= 1; drawSoon(); askForecasts(); });
  }
}

// At most ten times a second: there may be a thousand pictures, and each of them changes often.
function atLeisure(act) {
  let isComing = false;
  return () => {
    if (isComing) return;
    isComing = true;
    setTimeout(() => { isComing = false; act(); }, 100);
  };
}
const drawSoon = atLeisure(() => {
  for (const picture of pictures) drawPicture(picture);
  planAll();
  planPart();
  drawFacts();
});
const planSoon = atLeisure(() => { planAll(); drawTotal(); });

// The server learns its pace from what it makes, at first more than later.
let measured = 0;
function paceIsBetterKnown() {
  measured += 1;
  if (measured & (measured - 1)) return;
  for (const [key, forecast] of forecasts) if (forecast && !forecast.trouble) forecasts.delete(key);
}

