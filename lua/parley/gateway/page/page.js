"use strict";
(() => {
  const AGAIN_MS = 1500;
  const WAIT_S = 3600;
  const $ = (id) => document.getElementById(id);
  const WHO = { you: "you", claude: "claude", call: "→", result: "←", error: "!" };

  let shown = null; // what is looked at: a session's id, or "" for the list
  let view = null; // of a session: its id, its terminal, the keys that were not sent yet
  let connection = null; // an AbortController
  const PERSON = `page-${Math.random().toString(36).slice(2)}`; // who asks again gets what an aborted take over has given
  let holding = null; // what take over has given
  let asking = null; // an AbortController, while take over waits
  let leaving = false;

  // Small things -------------------------------------------------------------------------------------------------------

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function notice(text) {
    $("notice").textContent = text;
  }

  function age(startedAt) {
    const seconds = Math.max(0, Math.round((Date.now() - startedAt) / 1000));
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  }

  const short = (count) => (count < 10000 ? String(count) : `${Math.round(count / 1000)}k`);
  const turns = (count) => `${count} ${count === 1 ? "turn" : "turns"}`;
  const tokens = (line) => `${short(line.input_tokens)} / ${short(line.output_tokens)}`;

  // The list -----------------------------------------------------------------------------------------------------------

  function row(line) {
    const made = element("tr");
    made.dataset.id = line.id;
    const state = element("td");
    state.append(element("span", `state ${line.state}`, line.state));
    const link = element("a", "id", line.id.slice(0, 8));
    link.href = `#${line.id}`;
    link.title = line.id;
    const id = element("td");
    id.append(link);
    const started = element("td", "age", age(line.started_at));
    started.dataset.since = line.started_at;
    const folder = element("td", "folder", line.folder);
    folder.title = line.folder;
    made.append(state, element("td", "doing", line.doing), folder, element("td", "", line.model), started,
      element("td", "number", String(line.turns)), element("td", "number", tokens(line)), id);
    made.addEventListener("click", () => { location.hash = line.id; });
    return made;
  }

  function showSessions(lines) {
    $("sessions").replaceChildren(...lines.map(row));
    $("none").hidden = lines.length > 0;
  }

  setInterval(() => {
    for (const cell of document.querySelectorAll("[data-since]")) cell.textContent = age(Number(cell.dataset.since));
  }, 1000);

  // A session ----------------------------------------------------------------------------------------------------------

  function showLine(line) {
    $("state").className = `state ${line.state}`;
    $("state").textContent = line.state;
    $("doing").textContent = line.doing;
    $("facts").textContent = `${line.folder} · ${line.model} · ${turns(line.turns)} · ${tokens(line)} tokens`;
    if (!holding && !asking) $("take").disabled = line.state === "taken" || line.state === "starting";
  }

  function showConversation({ from, pieces }) {
    const place = $("conversation");
    const isAtEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
    while (place.children.length > from) place.lastChild.remove();
    for (const piece of pieces) {
      const made = element("article", piece.who);
      made.append(element("h2", "", WHO[piece.who] ?? piece.who), element("p", "", piece.text));
      place.append(made);
    }
    if (isAtEnd) place.scrollTop = place.scrollHeight;
  }

  const takes = {
    sessions: showSessions,
    session: showLine,
    conversation: showConversation,
    snapshot: (data) => view.terminal.snapshot(data),
    bytes: (data) => { if (!view.terminal.bytes(data)) connection.abort(); }, // and a new snapshot
    gone: () => {
      notice("This session has ended.");
      leaving = true;
    },
  };

  // The keyboard -------------------------------------------------------------------------------------------------------

  const holdKey = (id) => `parley-hold-${id}`;
  const holdOf = (id) => sessionStorage.getItem(holdKey(id));

  /** What take over has given is kept for its session, whichever is looked at by now. */
  function setHolding(id, hold) {
    if (hold) sessionStorage.setItem(holdKey(id), hold);
    else sessionStorage.removeItem(holdKey(id));
    if (id !== shown) return;
    holding = hold;
    document.body.classList.toggle("holding", Boolean(hold));
    $("take").hidden = Boolean(hold);
    $("give").hidden = !hold;
    view?.terminal.setTyping(Boolean(hold));
  }

  /** Sends what was typed into a session, in order: one request at a time, with all that has come meanwhile. */
  async function sendKeys(typedInto, bytes) {
    const { id, keys } = typedInto;
    if (!holdOf(id)) return;
    keys.push(bytes);
    if (typedInto.isSending) return;
    typedInto.isSending = true;
    try {
      while (keys.length > 0 && holdOf(id)) {
        const body = new Blob(keys.splice(0));
        await client.ask(`/sessions/${id}/keys`, { method: "POST", body, headers: { "parley-hold": holdOf(id) } });
      }
    } catch (problem) {
      notice(problem.message);
      if (problem.status === 409) setHolding(id, null);
    } finally {
      typedInto.isSending = false;
      keys.length = 0;
    }
  }

  async function takeOver() {
    if (asking) return asking.abort();
    const id = shown;
    asking = new AbortController();
    notice("The keyboard is yours when the turn that runs has ended. Click again not to wait.");
    try {
      const response = await client.ask(`/sessions/${id}/take?wait=${WAIT_S}`,
        { method: "POST", headers: { "parley-person": PERSON }, signal: asking.signal });
      setHolding(id, (await response.json()).hold);
      notice("");
      connect(); // so that the server sees that somebody is there
    } catch (problem) {
      notice(problem.name === "AbortError" ? "" : problem.message);
    } finally {
      asking = null;
    }
  }

  async function giveBack() {
    const id = shown;
    $("give").disabled = true;
    notice("Parley looks at what was done …");
    try {
      await client.ask(`/sessions/${id}/give-back`, { method: "POST", headers: { "parley-hold": holding } });
      setHolding(id, null);
      notice("");
    } catch (problem) {
      notice(problem.message);
      if (problem.status === 409 && /not taken/.test(problem.message)) setHolding(id, null);
    } finally {
      $("give").disabled = false;
    }
  }

  // The connection -----------------------------------------------------------------------------------------------------

  function showLogin() {
    client.logout();
    leaving = true;
    for (const id of ["list", "session"]) $(id).hidden = true;
    $("login").hidden = false;
    $("token").focus();
  }

  /** Follows the server's events, and comes back when the connection was lost. */
  async function follow(mine) {
    while (connection === mine && !leaving) {
      const headers = holding ? { "parley-hold": holding } : {};
      try {
        await client.stream(shown ? `/sessions/${shown}/stream` : "/sessions", {
          headers, signal: mine.signal,
          onOpen: () => { $("live").hidden = false; },
          onEvent: (name, data) => { if (connection === mine) takes[name]?.(data); },
        });
      } catch (problem) {
        if (connection !== mine) return;
        if (problem.status === 401) return showLogin();
        if (problem.status === 404) {
          notice("There is no such session any more.");
          leaving = true;
        } else if (problem.status === 409) {
          setHolding(shown, null);
        } else if (problem.name === "AbortError") {
          return connect();
        }
      }
      $("live").hidden = true;
      if (!leaving) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  function disconnect() {
    const former = connection;
    connection = null;
    $("live").hidden = true;
    former?.abort();
  }

  function connect() {
    disconnect();
    leaving = false;
    connection = new AbortController();
    follow(connection);
  }

  function show() {
    const id = /^#[0-9a-f-]{36}$/.test(location.hash) ? location.hash.slice(1) : "";
    if (id === shown) return;
    asking?.abort();
    disconnect();
    view?.terminal.close();
    view = null;
    shown = id;
    notice("");
    $("login").hidden = true;
    $("list").hidden = id !== "";
    $("session").hidden = id === "";
    $("conversation").replaceChildren();
    if (id) {
      const next = { id, keys: [], terminal: makeTerminal($("terminal"), (bytes) => sendKeys(next, bytes)) };
      view = next;
      window.parleyView = view; // for the specs
      setHolding(id, holdOf(id));
    } else {
      document.body.classList.remove("holding");
      holding = null;
    }
    connect();
  }

  // A tab that nobody sees leaves its connection to others, unless its person has the keyboard.
  document.addEventListener("visibilitychange", () => {
    if (holding || shown === null || !$("login").hidden) return;
    if (document.hidden) disconnect();
    else if (!connection) connect();
  });

  async function begin() {
    const token = /^#token=(.+)$/.exec(location.hash)?.[1];
    if (token) {
      history.replaceState(null, "", location.pathname);
      try {
        await client.login(decodeURIComponent(token));
      } catch (problem) {
        notice(problem.message);
      }
    }
    shown = null;
    if (client.isLoggedIn()) show();
    else showLogin();
  }

  $("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await client.login($("token").value.trim());
      $("token").value = "";
      notice("");
      shown = null;
      show();
    } catch (problem) {
      notice(problem.message);
    }
  });
  $("take").addEventListener("click", takeOver);
  $("give").addEventListener("click", giveBack);
  window.addEventListener("hashchange", () => {
    if (location.hash.startsWith("#token=")) begin();
    else if (client.isLoggedIn()) show();
  });
  begin();
})();
