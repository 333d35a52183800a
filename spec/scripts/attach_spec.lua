-- parley attach, in a terminal, on a gateway over the simulated claude.
local clients = require "parley.command.attach.client"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local json = require("parley.core").json
local task = require "parley.base.task"
local tmux = require "spec.tmux"

local SLOW = { script = { answers = { { on = "slow", text = "a slow answer", delay_ms = 1500 },
  { on = "red", text = "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字 end of it" } } } }

local function url_of(gateway) return ("http://127.0.0.1:%d"):format(gateway.server.port) end

local function attach(gateway, arguments, options)
  local argv = { helper.host, "attach", "--url", url_of(gateway) }
  table.move(arguments, 1, #arguments, #argv + 1, argv)
  local folder = helper.temporary_folder()
  local given = { env = { PARLEY_TOKEN = gateways.TOKEN }, cwd = folder, folder = folder, rows = 44, columns = 130 }
  for name, value in pairs(options or {}) do given[name] = value end
  return tmux.open(argv, given)
end

local function run(gateway, ...)
  return helper.run({ helper.host, "attach", "--url", url_of(gateway), ... },
    { env = helper.environment { PARLEY_TOKEN = gateways.TOKEN } })
end

local function session_of(gateway) return gateway:request "/sessions".json[1].id end

describe("parley attach", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function in_tmux(sentence, given, body)
    tmux.it(sentence, function()
      local gateway <close> = gateways.start(given)
      body(gateway)
    end)
  end

  it(gateways.serves("lists the sessions, for a person and for a program", function(gateway)
    assert.equal("parley: no session lives there now\n", run(gateway).errors)
    gateway:ask "one"
    local id = session_of(gateway)
    local shown = run(gateway)
    assert.equal(0, shown.status)
    assert.matches(id:sub(1, 8) .. " +ready +%d+ s +1 +%d+/%d+ sonnet +/.*/plain: waits for a message\n", shown.output)
    assert.equal(id, json.decode(run(gateway, "--json").output).id)
  end))

  it(gateways.serves("says what is wrong", function(gateway)
    gateway:ask "one"
    local cases = {
      { { "zzz" }, "no session 'zzz' lives there (parley attach lists them)" },
      { { "--url", "ftp://x" }, "--url must be like http://127.0.0.1:8765, not 'ftp://x'" },
      { { "--url", "http://127.0.0.1:1" }, "cannot reach parley serve at 127.0.0.1:1" },
      { { "--url", "http://[::1]:1" }, "cannot reach parley serve at [::1]:1" },
      { { "--token", "wrong-token-0123456789" }, "a token is needed" },
      { { session_of(gateway) }, "parley attach shows a session in a terminal" },
    }
    for _, case in ipairs(cases) do
      local shown = run(gateway, table.unpack(case[1]))
      assert.equal(1, shown.status)
      assert.matches(case[2], shown.errors, 1, true)
    end
  end))

  it(gateways.serves("prints the address of the page, with the token where no server is told of it", function(gateway)
    assert.equal(("%s/#token=%s\n"):format(url_of(gateway), gateways.TOKEN), run(gateway, "--link").output)
  end))

  tmux.it("looks in through a unix socket, and takes over there", function()
    local folder = helper.temporary_folder()
    local path = folder .. "/socket"
    local gateway <close> = gateways.start { socket = path }
    local client = clients.new { path = path, token = gateways.TOKEN }
    client:ask("POST", "/v1/messages", { body = '{"model":"sonnet","messages":[{"role":"user","content":"one"}]}' })
    local function by_socket(...)
      return helper.run({ helper.host, "attach", "--socket", path, ... },
        { env = helper.environment { PARLEY_TOKEN = gateways.TOKEN } })
    end
    local id = json.decode(by_socket("--json").output).id
    assert.matches("--link needs --url: a browser opens no unix socket", by_socket("--link").errors, 1, true)
    local person <close> = tmux.open({ helper.host, "attach", "--socket", path, "--take", id },
      { env = { PARLEY_TOKEN = gateways.TOKEN }, cwd = folder, folder = folder, rows = 44, columns = 130 })
    person:expect "you have the keyboard"
    person:type "by hand"
    person:press "Enter"
    person:expect "echo: by hand"
    assert.same({ "one", "by hand" }, gateway.kit:taken())
    person:press "C-]"
    person:expect "watching: t takes over"
    gateway.server:close()
    person:expect "the connection was lost; trying again"
    person:press "C-]"
    person:expect "status 0"
    assert.matches("cannot reach parley serve at " .. path, by_socket().errors, 1, true)
  end)

  in_tmux("shows a session through an answer, and leaves the terminal as it was", { kit = SLOW }, function(gateway)
    gateway:ask "one"
    local person <close> = attach(gateway, { session_of(gateway):sub(1, 6) })
    person:expect "echo: one"
    person:expect "ready · watching: t takes over, Ctrl-] leaves · waits for a message"
    local asking = task.spawn(gateway.ask, gateway, { { role = "user", content = "one" },
      { role = "assistant", content = "echo: one" }, { role = "user", content = "slow" } })
    person:expect " busy · "
    person:expect "a slow answer"
    asking:await()
    person:type "x" -- no key of a watcher's arrives
    person:press "C-]"
    person:expect "status 0"
    assert.matches("^parley: left\nstatus 0$", person:screen())
    assert.same({ "one", "slow" }, gateway.kit:taken())
    person:type "shown again"
    person:expect "shown again" -- the terminal echoes
  end)

  in_tmux("takes over, types and gives back", {}, function(gateway)
    gateway:ask "one"
    local person <close> = attach(gateway, { "--take", session_of(gateway) })
    person:expect "taken · you have the keyboard: Ctrl-] gives it back · is in the hands of me"
    person:type "by hand"
    person:expect "by hand"
    person:press "Enter"
    person:expect "echo: by hand"
    helper.eventually(function()
      return #gateway:request(("/sessions/%s/messages"):format(session_of(gateway))).json == 4
    end)
    person:press "C-]"
    person:expect "watching: t takes over"
    person:expect "echo: by hand"
    local answer = gateway:ask { { role = "user", content = "one" }, { role = "assistant", content = "echo: one" },
      { role = "user", content = "by hand" }, { role = "assistant", content = "echo: by hand" },
      { role = "user", content = "three" } }
    assert.equal("echo: three", gateways.text_of(answer.json))
    person:expect "echo: three"
    assert.same({ "one", "by hand", "three" }, gateway.kit:taken())
    person:press "t"
    person:expect "you have the keyboard"
    person:press "C-]"
    person:expect "watching: t takes over"
    person:press "C-]"
    person:expect "status 0"
  end)

  in_tmux("lets go of the keyboard, and can be left, when the server is gone", {}, function(gateway)
    gateway:ask "one"
    local person <close> = attach(gateway, { "--take", session_of(gateway) })
    person:expect "you have the keyboard"
    gateway.server:close()
    person:expect "the connection was lost; trying again"
    person:press "C-]"
    person:expect "cannot reach parley serve"
    person:press "C-]"
    person:expect "status 0"
  end)

  in_tmux("gives back behind what was typed just before", {}, function(gateway)
    gateway:ask "one"
    local person <close> = attach(gateway, { "--take", session_of(gateway) })
    person:expect "you have the keyboard"
    person:press("by hand", "Enter", "C-]")
    person:expect "echo: by hand"
    assert.same({ "one", "by hand" }, gateway.kit:taken())
  end)

  in_tmux("leaves a paste whose marks come in pieces", {}, function(gateway)
    gateway:ask "one"
    local typed = ""
    gateway.server.window.holds.type = function(_, _, bytes) typed = typed .. bytes end
    local person <close> = attach(gateway, { "--take", session_of(gateway) })
    person:expect "you have the keyboard"
    local whole = ""
    for _, piece in ipairs { "a\27[20", "0~b\29\27[20", "1~" } do -- Ctrl-] is a character of the paste
      local codes = {}
      for i = 1, #piece do codes[i] = ("%02x"):format(piece:byte(i)) end
      person:press("-H", table.unpack(codes))
      whole = whole .. piece
      helper.eventually(function() return typed == whole end)
    end
    person:press "C-]"
    person:expect "watching: t takes over"
    assert.equal(whole, typed)
  end)

  in_tmux("waits for the end of a turn, and does not when asked again", { kit = SLOW }, function(gateway)
    gateway:ask "one"
    local asking = task.spawn(gateway.ask, gateway, { { role = "user", content = "one" },
      { role = "assistant", content = "echo: one" }, { role = "user", content = "slow" } })
    helper.eventually(function() return gateway:request "/sessions".json[1].state == "busy" end)
    local person <close> = attach(gateway, { "--take", session_of(gateway) })
    person:expect "waits for the end of the turn; t again does not"
    person:press "t"
    person:expect "watching: t takes over"
    person:press "t"
    person:expect "you have the keyboard"
    assert.equal(200, asking:await().status)
    person:expect "a slow answer"
  end)

  in_tmux("shows as much as there is room for, and says so", { kit = SLOW }, function(gateway)
    gateway:ask "red"
    local low <close> = attach(gateway, { session_of(gateway) }, { rows = 20, columns = 130 })
    low:expect "ready · 40×120, cut to 19×120 · watching"
    assert.matches("❯", low:screen(), 1, true) -- what stands last is seen
    low:command "kill-server"
    local person <close> = attach(gateway, { session_of(gateway) }, { columns = 60 })
    person:expect "ready · 40×120, cut to 40×60 · watching"
    assert.matches("漢字漢字", person:screen(), 1, true)
    assert.is_nil(person:screen():find("end of it", 1, true))
    person:resize(130)
    person:expect "end of it"
    assert.matches("ready · watching", person:screen(), 1, true)
    assert.same({ 40, 120 }, { select(2, next(gateway.server.backend:live_sessions())).screen:size() })
  end)

  local function signal(person, name)
    local pid = person:command("display-message", "-p", "#{pane_pid}"):gsub("%s", "")
    helper.run { "/usr/bin/env", "pkill", "-" .. name, "-P", pid, "-f", "attach" }
  end

  in_tmux("stops and goes on with the terminal as it was", {}, function(gateway)
    gateway:ask "one"
    local person <close> = attach(gateway, { "--take", session_of(gateway) })
    person:expect "you have the keyboard"
    signal(person, "TSTP")
    helper.eventually(function() return person:screen() == "" end)
    person:type "shown again"
    person:expect "shown again"
    signal(person, "CONT")
    person:expect "you have the keyboard"
  end)

  in_tmux("is ended by a signal, with the terminal as it was", {}, function(gateway)
    gateway:ask "one"
    local person <close> = attach(gateway, { session_of(gateway) })
    person:expect "watching"
    signal(person, "TERM")
    person:expect "status 143"
    person:type "shown again"
    person:expect "shown again"
  end)

  in_tmux("goes when the session has gone", {}, function(gateway)
    gateway:ask "one"
    local person <close> = attach(gateway, { session_of(gateway) })
    person:expect "echo: one"
    select(2, next(gateway.server.backend:live_sessions())):signal "SIGKILL"
    person:expect "parley: the session has ended"
    person:expect "status 0"
  end)
end)
