// The window's page in a real browser, over the simulated claude. `make browser` runs it; screenshots go to the folder of
// its second argument, for a person to look at.
import { strict as assert } from "node:assert";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { mkdirSync } from "node:fs";
import { resolve as absolute } from "node:path";

const [host, folder, chromium] = process.argv.slice(2);
const puppeteer = createRequire(`${absolute(folder)}/`)("puppeteer-core");
const PATIENCE = { timeout: 60000 };

mkdirSync(`${folder}/screenshots`, { recursive: true });
const server = spawn(host, ["spec/browser/serve.lua"], { stdio: ["pipe", "pipe", "inherit"] });
const first = await new Promise((resolve, reject) => {
  createInterface({ input: server.stdout }).once("line", resolve);
  server.once("exit", (status) => reject(new Error(`the server has ended: ${status}`)));
});
const { port, token } = JSON.parse(first);
const address = `http://127.0.0.1:${port}/`;
const browser = await puppeteer.launch({
  executablePath: chromium, headless: true, timeout: 120000, protocolTimeout: 120000,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

// What a spec says -----------------------------------------------------------------------------------------------------

const problems = []; // what a page complains of: a policy that was broken, an exception

async function open(url = address) {
  const page = await (await browser.createBrowserContext()).newPage();
  page.setDefaultTimeout(PATIENCE.timeout);
  await page.setViewport({ width: 1500, height: 900 });
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(address)) problems.push(`something else was asked for: ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

const link = `${address}#token=${token}`;
const photograph = (page, name) => page.screenshot({ path: `${folder}/screenshots/${name}.png` });
const until = (page, fits, ...given) => page.waitForFunction(fits, PATIENCE, ...given);
const shows = (page, text) => until(page, (wanted) => window.parleyView?.terminal.text().includes(wanted), text);
const says = (page, text) =>
  until(page, (wanted) => document.querySelector("#conversation").textContent.includes(wanted), text);
const isIn = (page, state) =>
  until(page, (wanted) => document.querySelector("#state").textContent === wanted, state);
const terminalOf = (page) => page.evaluate(() => window.parleyView.terminal.text());

async function ask(...texts) {
  const messages = texts.map((content, i) => ({ role: i % 2 ? "assistant" : "user", content }));
  const response = await fetch(`${address}v1/messages`, {
    method: "POST", headers: { "x-api-key": token, "content-type": "application/json" },
    body: JSON.stringify({ model: "sonnet", max_tokens: 1000, messages }),
  });
  return { status: response.status, body: await response.json() };
}

// The page hears of a session a moment after its first answer: what is not in its list yet is waited for.
async function sessionOf(page, text) {
  for (const deadline = Date.now() + PATIENCE.timeout; Date.now() < deadline;) {
    const ids = await page.$$eval("#sessions tr", (rows) => rows.map((row) => row.dataset.id));
    for (const id of ids) {
      const response = await fetch(`${address}sessions/${id}/messages`, { headers: { "x-api-key": token } });
      if ((await response.text()).includes(text)) return id;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no session has said ${text}`);
}

async function begin(text) {
  assert.equal((await ask(text)).status, 200);
  const page = await open(link);
  const id = await sessionOf(page, text);
  await page.click(`tr[data-id="${id}"]`);
  await shows(page, `echo: ${text}`);
  return { page, id };
}

// The specs ------------------------------------------------------------------------------------------------------------

const specs = {
  async "asks for the token, and takes no wrong one"() {
    const page = await open();
    await page.waitForSelector("#login:not([hidden])");
    await page.type("#token", "wrong-token-0123456789");
    await page.click("#login button");
    await until(page, () => document.querySelector("#notice").textContent.includes("token"));
    await photograph(page, "login");
    problems.length = 0; // the browser tells of the 401
    await page.$eval("#token", (field) => { field.value = ""; });
    await page.type("#token", token);
    await page.click("#login button");
    await page.waitForSelector("#list:not([hidden])");
    await until(page, () => !document.querySelector("#none").hidden);
    return page;
  },

  async "takes the token from the address, which does not keep it"() {
    const page = await open(link);
    await page.waitForSelector("#list:not([hidden])");
    assert.equal(page.url(), address);
    return page;
  },

  async "lists the sessions, live"() {
    const page = await open(link);
    const asking = ask("slow");
    await until(page, () => document.querySelector("#sessions .state.busy"));
    await photograph(page, "list-busy");
    assert.equal((await asking).status, 200);
    await until(page, () => document.querySelector("#sessions .state")?.textContent === "ready");
    await photograph(page, "list-ready");
    return page;
  },

  async "shows a terminal through an answer, to two at a time"() {
    const { page, id } = await begin("watch");
    const other = await open(link);
    await other.goto(`${address}#${id}`);
    await shows(other, "echo: watch");
    const asking = ask("watch", "echo: watch", "slow");
    await isIn(page, "busy");
    await photograph(page, "watching");
    await asking;
    for (const each of [page, other]) {
      await shows(each, "a slow answer");
      await says(each, "a slow answer");
      await isIn(each, "ready");
    }
    assert.equal(await terminalOf(page), await terminalOf(other));
    await page.keyboard.type("a watcher types");
    assert.ok(!(await terminalOf(page)).includes("a watcher types"));
    await photograph(page, "watched");
    await other.close();
    return page;
  },

  async "shows colours, which its policy would not let into the page's own text"() {
    const { page } = await begin("colours");
    const colours = await page.evaluate(async () => {
      const letters = (text) => btoa(text);
      window.parleyView.terminal.snapshot({ rows: 5, columns: 20, to: 0,
        data: letters("\x1b[38;2;255;100;0mX\x1b[0;48;2;1;2;3mY\x1b[0;38;5;196mZ\x1b[0;1mB") });
      await new Promise((resolve) => setTimeout(resolve, 500));
      const look = (letter) => {
        const span = [...document.querySelectorAll("#terminal span")].find((each) => each.textContent === letter);
        return getComputedStyle(span);
      };
      return [look("X").color, look("Y").backgroundColor, look("Z").color, look("B").fontWeight];
    });
    assert.deepEqual(colours, ["rgb(255, 100, 0)", "rgb(1, 2, 3)", "rgb(255, 0, 0)", "700"]);
    return page;
  },

  async "goes on after a reload in the middle of an answer"() {
    const { page } = await begin("reload");
    const asking = ask("reload", "echo: reload", "long");
    await isIn(page, "busy");
    await page.reload();
    await shows(page, "line 60 of a long answer");
    await says(page, "line 60 of a long answer");
    await asking;
    await photograph(page, "reloaded");
    const fresh = await open(page.url());
    await fresh.waitForSelector("#login:not([hidden])"); // another tab has not the secret of this one
    await fresh.close();
    return page;
  },

  async "comes back by itself when its connection was lost"() {
    const { page } = await begin("lost");
    const asking = ask("lost", "echo: lost", "slow").catch(() => {}); // whose connection will be lost, too
    await isIn(page, "busy");
    const isLive = (wanted) => until(page, (live) => document.querySelector("#live").hidden !== live, wanted);
    await isLive(true);
    server.stdin.write("\n");
    await isLive(false);
    await asking;
    problems.length = 0; // the browser tells of that
    await isLive(true);
    assert.equal((await ask("lost", "echo: lost", "slow")).status, 200); // the same turn
    await shows(page, "a slow answer");
    await says(page, "a slow answer");
    await isIn(page, "ready");
    assert.equal((await terminalOf(page)).split("a slow answer").length, 2);
    return page;
  },

  async "takes over, types and gives back"() {
    const { page, id } = await begin("mine");
    await page.click("#take");
    await page.waitForSelector("body.holding");
    await isIn(page, "taken");
    assert.equal((await ask("mine", "echo: mine", "two")).status, 409);
    await page.click("#terminal");
    await page.keyboard.type("typed by hand");
    await shows(page, "typed by hand");
    await photograph(page, "holding");
    await page.reload(); // the keyboard stays with the one who has it
    await page.waitForSelector("body.holding");
    await shows(page, "typed by hand");
    await page.click("#terminal");
    await page.keyboard.press("Enter");
    await shows(page, "echo: typed by hand");
    await says(page, "echo: typed by hand");
    const messages = async () =>
      (await fetch(`${address}sessions/${id}/messages`, { headers: { "x-api-key": token } })).json();
    while ((await messages()).length < 4) await new Promise((resolve) => setTimeout(resolve, 100));
    do {
      await page.click("#give");
      await until(page, () => !document.querySelector("#give").disabled);
    } while (await page.$eval("#notice", (notice) => notice.textContent.includes("at work")));
    await page.waitForSelector("body:not(.holding)");
    await isIn(page, "ready");
    await shows(page, "echo: typed by hand");
    await photograph(page, "given-back");
    const answer = await ask("mine", "echo: mine", "typed by hand", "echo: typed by hand", "three");
    assert.equal(answer.body.content[0].text, "echo: three");
    await shows(page, "echo: three");
    assert.equal(await sessionOf(await open(link), "echo: three"), id);
    problems.length = 0; // the browser tells of each 409
    return page;
  },

  async "types into the session that was looked at, and a long paste whole"() {
    const { page, id } = await begin("left");
    await page.click("#take");
    await page.waitForSelector("body.holding");
    assert.equal((await ask("right")).status, 200);
    const other = await sessionOf(page, "right");
    const goTo = async (session, text) => {
      await page.evaluate((hash) => { location.hash = hash; }, session);
      await shows(page, text);
    };
    await goTo(other, "echo: right");
    await page.click("#take");
    await page.waitForSelector("body.holding");
    await goTo(id, "echo: left");
    await page.waitForSelector("body.holding");
    await page.evaluate(() => { // a server that is slow
      const { fetch } = window;
      window.fetch = async (path, options) => {
        const response = await fetch(path, options);
        if (String(path).endsWith("/keys")) await new Promise((resolve) => setTimeout(resolve, 1000));
        return response;
      };
    });
    await page.click("#terminal");
    await page.keyboard.type("abc");
    await goTo(other, "echo: right");
    await page.click("#terminal");
    await page.keyboard.type("xyz");
    await shows(page, "xyz");
    assert.ok(!(await terminalOf(page)).includes("bc"));
    await goTo(id, "abc");
    await page.evaluate(() => {
      const data = new DataTransfer();
      data.setData("text/plain", "p".repeat(300000));
      const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
      document.querySelector("#terminal textarea").dispatchEvent(paste);
    });
    await shows(page, "[Pasted text #1");
    return page;
  },
};

const counts = { good: 0, bad: 0 };
for (const [name, spec] of Object.entries(specs)) {
  problems.length = 0;
  try {
    const page = await spec();
    assert.deepEqual(problems, []);
    await page.close();
    counts.good++;
    console.log(`+ ${name}`);
  } catch (error) {
    counts.bad++;
    console.log(`- ${name}\n${error.stack}\n${problems.join("\n")}`);
    for (const page of await browser.pages()) await photograph(page, `failed-${counts.bad}`).catch(() => {});
  }
}
await browser.close();
server.removeAllListeners("exit");
server.stdin.end();
await new Promise((resolve) => server.once("exit", resolve));
console.log(`${counts.good} successes / ${counts.bad} failures / 0 errors / 0 pending`);
process.exit(counts.bad ? 1 : 0);
