-- src/page.sh, and a program that was built without the window's page.
local assets = require "parley.gateway.window.assets"
local files = require "parley.base.files"
local helper = require "spec.helper"
local testing = require "parley.testing"
local http_client = require "parley.testing.http_client"

local TOKEN = "spec-token-0123456789"

describe("without npm", function()
  local build = helper.host:match "^(.*)/"
  local check_leaks, folder

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  it("the page's files cannot be had, which is said, and is no failure", helper.task(function()
    local page = helper.run({ "/bin/sh", "src/page.sh", folder .. "/page" }, { env = { "PATH=" .. folder } })
    assert.same({ 0, "" }, { page.status, page.output })
    assert.matches("the program is built without the window's page: npm is not installed", page.errors, 1, true)
  end))

  it("nor where npm has failed once, until somebody says otherwise", helper.task(function()
    files.write(folder .. "/failed", "", true)
    local page = helper.run({ "/bin/sh", "src/page.sh", folder })
    assert.same({ 0, "" }, { page.status, page.output })
    assert.matches("remove " .. folder .. "/failed to try again", page.errors, 1, true)
  end))

  --- Builds the program anew, of the objects that there are.
  local function make_program()
    files.write(folder .. "/failed", "", true)
    assert.equal(0, helper.run({ "/bin/cp", "-pR", build .. "/obj", folder .. "/obj" }).status)
    local made = helper.run({ "/usr/bin/env", "make", "-s", "B=" .. folder, "PAGE=" .. folder, folder .. "/parley" },
      { env = helper.environment { CFLAGS = os.getenv "CFLAGS", SANITIZE = os.getenv "SANITIZE" } })
    assert.equal(0, made.status, made.output .. made.errors)
    assert.matches("the program is built without the window's page", made.errors, 1, true)
    return folder .. "/parley"
  end

  it("the program says that it has no page, and does the rest", helper.task(function()
    local kit <close> = testing.kit()
    local program = make_program()
    local server <close> = helper.start({ program, "serve", "--port", "0", "--executable", kit.executable },
      { env = helper.environment(kit.environment, { HOME = kit.home, PARLEY_TOKEN = TOKEN }), input = false })
    server.changed:wait_until(function() return server.errors:find "plain model,.-\n" or server.status end, 60000)
    assert.is_nil(server.errors:find("the window is its page", 1, true))
    local port = assert(server.errors:match "listening on http://%S-:(%d+)\n", server.errors)
    local function request(path, body)
      return http_client.request { url = ("http://127.0.0.1:%s%s"):format(port, path), body = body,
        headers = { ["x-api-key"] = TOKEN } }
    end
    for _, path in ipairs { "/", "/page/page.js", "/page/xterm.js" } do
      local page = request(path)
      assert.equal(404, page.status)
      assert.matches("this program was built without its page, for npm was missing", page.body, 1, true)
    end
    local answer = request("/v1/messages", '{"model":"sonnet","messages":[{"role":"user","content":"one"}]}')
    assert.equal(200, answer.status, answer.body)
    local listed = helper.run({ program, "attach", "--url", "http://127.0.0.1:" .. port },
      { env = helper.environment { PARLEY_TOKEN = TOKEN } })
    assert.matches("waits for a message", listed.output, 1, true)
    server:kill "sigterm"
    server:wait()
  end))

  it("is told from a program with one", function()
    assert.equal(files.read "build/page/xterm.js" ~= nil, assets.has_page())
  end)
end)
