"use strict";
// Talking with the server. What goes wrong comes as a Trouble, whose message is a sentence for a person.

class Trouble extends Error {
  constructor(sentence, { status = 0, retryAfter = null } = {}) {
    super(sentence.slice(0, 1).toUpperCase() + sentence.slice(1));
    Object.assign(this, { status, retryAfter, isGone: status === 0 });
  }
}

// `askToken` gives a token or null, when the server wants one.
function newServer(askToken) {
  const base = new URL(".", document.baseURI);
  let token = null;
  let asking = null;
  try { token = sessionStorage.getItem("idm-deploy token"); } catch { /* the browser keeps nothing */ }

  function keep(found) {
    token = found;
    try { sessionStorage.setItem("idm-deploy token", token); } catch { /* for this page alone, then */ }
  }

  const headers = () => (token === null ? {} : { Authorization: `Bearer ${token}` });

  async function request(path, options = {}) {
    const sent = token;
    let response;
    try {
      response = await fetch(new URL(path, base), { ...options, headers: { ...options.headers, ...headers() } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Trouble("The server does not answer.");
    }
    if (response.status === 401) {
      if (token === sent) {
        asking ??= askToken(token !== null).finally(() => { asking = null; });
        const found = await asking;
        if (found === null) throw new Trouble("The server wants a token.", { status: 401 });
        keep(found);
      }
      return request(path, options);
    }
    if (!response.ok) throw await troubleFrom(response);
    return response;
  }

  async function troubleFrom(response) {
    const { status } = response;
    const seconds = Number(response.headers.get("Retry-After"));
    const retryAfter = Number.isFinite(seconds) && seconds > 0 ? seconds : null;
    let sentence = null;
    if ((response.headers.get("Content-Type") ?? "").includes("json")) {
      try {
        const problem = await response.json();
        sentence = [problem.detail, problem.title].find((text) => typeof text === "string" && text) ?? null;
      } catch { /* not what it says it is */ }
    }
    sentence ??= status === 413 ? "The file is larger than the server takes."
      : status >= 500 ? `The server failed (${status}); its log says more.` : `The server refused this (${status}).`;
    return new Trouble(sentence, { status, retryAfter });
  }

  // Server-sent events, one {event, data} after another. EventSource cannot send a token.
  async function* events(path, signal) {
    const response = await request(path, { signal, headers: { Accept: "text/event-stream" } });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        text = (text + value).replaceAll("\r\n", "\n");
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const fields = block.split("\n").map((line) => line.match(/^(event|data): ?(.*)$/)).filter(Boolean);
          const data = fields.filter(([, name]) => name === "data").map(([, , value]) => value).join("\n");
          const event = fields.find(([, name]) => name === "event")?.[2] ?? "message";
          if (data) yield { event, data: JSON.parse(data) };
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || signal?.aborted) throw new DOMException("", "AbortError");
      throw new Trouble("The server does not answer.");
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  const json = async (path, options) => (await request(path, options)).json();
  const blob = async (path, options) => (await request(path, options)).blob();
  const post = (path, body, options) => json(path, {
    ...options, method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  });
  // For the moment in which the page is left: nobody waits for the answer.
  const leave = (path) => {
    fetch(new URL(path, base), { method: "DELETE", keepalive: true, headers: headers() }).catch(() => {});
  };
  const answers = async () => {
    try { return (await fetch(new URL("healthz", base), { cache: "no-store" })).ok; } catch { return false; }
  };
  return { request, events, json, blob, post, leave, answers };
}
