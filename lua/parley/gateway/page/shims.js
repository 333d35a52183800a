"use strict";
// The page's policy lets no style in that stands in the document itself. xterm.js writes such, as elements and as
// attributes; what it writes goes another way here, by objects, which the policy allows to scripts of this page.
(() => {
  const createElement = document.createElement.bind(document);

  /** What stands in for a style element: its text is a sheet of the document's. */
  function styleElement() {
    const element = createElement("template");
    const sheet = new CSSStyleSheet();
    const remove = element.remove.bind(element);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    Object.defineProperty(element, "textContent", {
      get: () => "",
      set: (text) => sheet.replaceSync(text),
    });
    Object.defineProperty(element, "sheet", { get: () => sheet });
    element.remove = () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => each !== sheet);
      remove();
    };
    return element;
  }

  document.createElement = (name, options) =>
    String(name).toLowerCase() === "style" ? styleElement() : createElement(name, options);

  const setAttribute = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
})();
