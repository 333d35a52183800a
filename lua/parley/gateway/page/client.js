"use strict";
// What is said to the server. The page's secret is kept for this tab, and goes into a header: no other page, and no other
// server on this machine, is ever sent it, as a cookie would be.
const client = (() => {
  const KEY = "parley-secret";

  const secret = () => sessionStorage.getItem(KEY);

  class Refusal extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
    }
  }

  async function refusal(response) {
    const body = await response.json().catch(() => null);
    return new Refusal(response.status, body?.error?.message ?? `the server says ${response.status}`);
  }

  async function ask(path, { method = "GET", body, headers = {}, signal, bearer = secret() } = {}) {
    const response = await fetch(path, {
      method, body, signal, cache: "no-store", credentials: "omit", redirect: "error",
      headers: { authorization: `Bearer ${bearer}`, ...headers },
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** Exchanges the server's token for a secret of this page's. */
  async function login(token) {
    const response = await ask("/login", { method: "POST", bearer: token });
    sessionStorage.setItem(KEY, (await response.json()).secret);
  }

  function logout() {
    sessionStorage.removeItem(KEY);
  }

  /** One event of a stream, as the server writes them. */
  function parse(frame) {
    let name = "message", data = "";
    for (const line of frame.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    return data ? { name, data: JSON.parse(data) } : null;
  }

  /** Calls with each event of a stream, until it ends. `onOpen` is called when the server has begun to answer. */
  async function stream(path, { headers, signal, onOpen, onEvent }) {
    const response = await ask(path, { headers: { accept: "text/event-stream", ...headers }, signal });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const event = parse(frame);
        if (event) onEvent(event.name, event.data);
      }
    }
  }

  const isLoggedIn = () => secret() !== null;
  return { ask, login, logout, stream, isLoggedIn, Refusal };
})();
