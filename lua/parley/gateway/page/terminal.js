"use strict";
// A session's terminal, as it is there: never resized from here, and never answering for the terminal that it shows.
const makeTerminal = (place, onKeys) => {
  const terminal = new Terminal({
    disableStdin: true, cursorBlink: false, scrollback: 2000, allowProposedApi: false,
    fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace", fontSize: 13, lineHeight: 1.15,
    theme: { background: "#14161a", foreground: "#d6d9de", cursor: "#d6d9de", selectionBackground: "#3a4a63" },
    linkHandler: { activate: () => {}, allowNonHttpProtocols: false },
  });
  const swallow = () => true;

  // Parley answers what a program asks of its terminal. A second answer would be typed into it.
  const questions = [
    { final: "c" }, { prefix: ">", final: "c" }, { prefix: "=", final: "c" }, { final: "n" }, { prefix: "?", final: "n" },
    { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" }, { prefix: ">", final: "q" },
    { prefix: "?", final: "u" }, { final: "t" },
  ];
  for (const question of questions) terminal.parser.registerCsiHandler(question, swallow);
  terminal.parser.registerDcsHandler({ intermediates: "$", final: "q" }, swallow);
  for (const number of [4, 10, 11, 12, 52]) terminal.parser.registerOscHandler(number, swallow);

  terminal.open(place);
  terminal.onData((text) => onKeys(new TextEncoder().encode(text)));
  terminal.onBinary((text) => onKeys(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));

  const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  let to = null;

  return {
    /** Draws what the session's terminal shows now. */
    snapshot(data) {
      terminal.reset();
      terminal.resize(data.columns, data.rows);
      terminal.write(decode(data.data));
      to = data.to;
    },
    /** Shows what the program has written; false when something before it is missing. */
    bytes(data) {
      if (data.from !== to) return false;
      terminal.write(decode(data.data));
      to = data.to;
      return true;
    },
    setTyping(mayType) {
      terminal.options.disableStdin = !mayType;
      terminal.options.cursorBlink = mayType;
      if (mayType) terminal.focus();
      else terminal.blur();
    },
    focus: () => terminal.focus(),
    close: () => terminal.dispose(),
    /** For the specs: what it shows. */
    text() {
      const rows = [];
      for (let row = 0; row < terminal.rows; row++) {
        rows.push(terminal.buffer.active.getLine(terminal.buffer.active.baseY + row)?.translateToString(true) ?? "");
      }
      return rows.join("\n");
    },
  };
};
