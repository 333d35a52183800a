--- What a caller replaces and adds, over fake processes.
local fake_backends = require "spec.fake_backends"
local files = require "parley.base.files"
local helper = require "spec.helper"
local parley = require "parley"
local task = require "parley.base.task"
local uv = require "luv"
local json = require("parley.core").json

local place ---@type spec.FakeBackends
before_each(function() place = fake_backends.begin() end)
after_each(function() place:finish() end)

local user = fake_backends.user
local HISTORY = fake_backends.HISTORY
local with_history = fake_backends.with_history
local collect = fake_backends.collect
local talk = fake_backends.talk
local raised = helper.failure_of
local taken = fake_backends.taken

describe("11. mcp_servers", function()
  local SERVERS = { files = { command = "mcp-files", args = json.array {} } }

  it("becomes a private file on first use, the same on later calls, removed by close", helper.task(function()
    local backend = parley.backend { cwd = place.cwd, mcp_servers = SERVERS }
    local list = backend:mcp_config_argument()
    assert.equal(1, #list)
    assert.equal('{"mcpServers":{"files":{"args":[],"command":"mcp-files"}}}', files.read(list[1]))
    assert.equal(tonumber("600", 8), uv.fs_stat(list[1]).mode & 511)
    assert.equal(tonumber("700", 8), uv.fs_stat(list[1]:match "^(.*)/").mode & 511)
    assert.same(list, backend:mcp_config_argument())
    backend:close()
    assert.is_nil(uv.fs_stat(list[1]:match "^(.*)/"))
    raised("ClosedError", backend.mcp_config_argument, backend)
  end))

  it("stands behind the files of mcp_config", helper.task(function()
    helper.write(place.cwd .. "/a.json", "{}")
    local backend <close> = parley.backend { cwd = place.cwd, mcp_servers = SERVERS, mcp_config = "a.json" }
    local list = backend:mcp_config_argument()
    assert.equal("a.json", list[1])
    assert.equal(2, #list)
  end))

  it("is nothing without either", helper.task(function()
    local backend <close> = parley.backend { cwd = place.cwd }
    assert.same({}, backend:mcp_config_argument())
  end))

  it("is refused when JSON cannot hold it, and nothing is started", helper.task(function()
    local err = raised("ValueError", parley.backend, { cwd = place.cwd, mcp_servers = { a = { print } } })
    assert.matches("option 'mcp_servers' must be servers by name that JSON can hold (", err.message, 1, true)
    assert.equal("mcp_servers", err.option)
  end))

  it("is written once by two calls at once, though the policy waits", helper.task(function()
    local written, removed = 0, {}
    local backend = parley.backend { cwd = place.cwd, mcp_servers = SERVERS, policies = { mcp_config = {
      write = function()
        written = written + 1
        helper.tick()
        return "/written"
      end,
      remove = function(path) table.insert(removed, path) end,
    } } }
    local first = task.spawn(backend.mcp_config_argument, backend)
    local second = task.spawn(backend.mcp_config_argument, backend)
    assert.same({ "/written" }, first:await())
    assert.same({ "/written" }, second:await())
    assert.equal(1, written)
    backend:close()
    assert.same({ "/written" }, removed)
  end))

  local a_signal = "local uv = require 'luv' uv.kill(uv.os_getpid(), 'sigterm') parley.task.condition():wait(60000)"
  for what, chunk in pairs {
    ["ends without closing it"] = "",
    ["ends with an error"] = "error 'oops'",
    ["is ended by a signal"] = a_signal,
  } do
    it("leaves nothing when the host " .. what, helper.task(function()
      assert(files.make_folder(place.folder .. "/tmp"))
      local program = helper.run({ helper.host, "-e", ([[
        parley = require "parley"
        backend = parley.backend { mcp_servers = { a = { command = "x" } } }
        io.stdout:write(backend:mcp_config_argument()[1])
        io.stdout:flush()
        %s]]):format(chunk) }, { env = { "TMPDIR=" .. place.folder .. "/tmp", "HOME=" .. place.home } })
      assert.matches("/tmp/parley%-mcp", program.output)
      assert.same({}, helper.names_in(place.folder .. "/tmp"))
    end))
  end
end)

describe("12. policies", function()
  local function policy_file(body) return helper.write(place.folder .. "/mine.lua", body) end

  it("are replaced by tables", helper.task(function()
    local seen
    local backend <close> = place:backend { policies = { injection = { prepare = function(request)
      seen = request
      return { text = "in my words: " .. request.text }
    end } } }
    talk(backend, with_history())
    assert.same({ "in my words: What is my name?" }, taken(place.fakes[1]))
    assert.same(HISTORY, seen.history)
    assert.equal(place.fakes[1].session_id, seen.session_id)
    assert.equal(place.fakes[1].jsonl_path, seen.jsonl_path)
    assert.equal(place.cwd, seen.cwd)
  end))

  it("are replaced by files", helper.task(function()
    local path = policy_file [[return { prepare = function(request) return { text = "mine: " .. request.text } end }]]
    local backend <close> = place:backend { policies = { injection = path } }
    talk(backend, with_history "x")
    assert.same({ "mine: x" }, taken(place.fakes[1]))
  end))

  it("are looked at when the backend is made, those of its sessions too", helper.task(function()
    local seen = {}
    local backend <close> = place:backend { policies = { delivery = { prepare = function(words)
      table.insert(seen, words)
      return nil, "not today"
    end } } }
    assert.matches("messages%[1%] cannot be sent: not today",
      raised("ValueError", backend.complete, backend, { user "hi" }).message)
    assert.same({ "hi" }, seen)
  end))

  it("leave the caller's tables as they were", helper.task(function()
    local own = { prepare = function(words) return words end }
    local backend <close> = place:backend { policies = { delivery = own } }
    backend:complete { user "hi" }
    assert.is_nil(getmetatable(own))
    assert.is_nil(own.described)
  end))

  describe("that are wrong are one clear error:", function()
    local function refused(policies)
      local err = raised("ValueError", parley.backend, { cwd = place.cwd, policies = policies })
      assert.is_nil(err.message:find "\n")
      return err.message
    end

    it("a file that is not there", function()
      assert.matches("cannot open no/such.lua: No such file or directory (in " .. uv.cwd() .. ")",
        refused { routing = "no/such.lua" }, 1, true)
      assert.matches("the policy 'routing' %(/no/such.lua%) cannot be loaded: .*/no/such.lua",
        refused { routing = "/no/such.lua" })
    end)

    it("a file that is no Lua", function()
      local path = policy_file "return {"
      assert.matches("the policy 'routing' (" .. path .. ") cannot be loaded", refused { routing = path }, 1, true)
    end)

    it("a file that raises", function()
      local path = policy_file "error 'oops'"
      assert.matches("the policy 'injection' (" .. path .. ") fails when it is loaded", refused { injection = path }, 1,
        true)
    end)

    it("a file that returns something else", function()
      assert.matches("must be a table of functions, not a number", refused { mcp_config = policy_file "return 5" })
      assert.matches("must be a table of functions, not a nil", refused { mcp_config = policy_file "" })
    end)

    it("a function that is none", function()
      assert.matches("the policy 'routing': 'route' must be a function, not a string",
        refused { routing = { route = "x" } })
    end)

    it("a table without any of the functions", function()
      assert.matches("the policy 'routing' has none of the functions of such a policy: 'keys', 'route'",
        refused { routing = { _LIMIT = 5 } })
      assert.matches("'state'", refused { readiness = {} })
    end)

    it("a function that no such policy has, with the near one", function()
      local function route() return {} end
      assert.equal("the policy 'routing' has 'kyes', which no such policy has; did you mean 'keys'?",
        refused { routing = { route = route, kyes = print } })
      assert.equal("the policy 'routing' has 'rout', which no such policy has; did you mean 'route'?",
        refused { routing = { rout = route } })
      assert.equal("the policy 'routing' has 'store', which no such policy has: its functions are 'keys', 'route'; "
        .. "what is its own begins with '_'", refused { routing = { route = route, store = print } })
      assert.matches("'dcide', which no such policy has; did you mean 'decide'", refused { dialogs =
        policy_file "return { recognize = print, dcide = print }" })
      parley.backend { cwd = place.cwd, policies = { routing = { route = route, _size = print, _LIMIT = 5 } } }
    end)

    it("a setting that nobody would read", function()
      local known = "which no such policy has: its functions are 'decide', 'recognize'; what is its own begins with '_'"
      assert.equal("the policy 'dialogs' has 'kinds', " .. known, refused { dialogs = { decide = print, kinds = {} } })
      assert.matches("'entr', which no such policy has; did you mean 'enter'", refused { delivery = { entr = "\n" } })
      assert.matches("'enter' must be a string, not a boolean", refused { delivery = { enter = true } })
    end)

    it("a policy that there is not", function()
      assert.matches("there is no policy 'weather': it must be one of routing, injection", refused { weather = {} })
    end)

    local function fails(policies, pattern)
      local backend <close> = place:backend { policies = policies }
      local err = raised("ValueError", collect, backend, with_history())
      assert.matches(pattern, err.message)
      assert.equal(0, backend:live_session_count())
      return err
    end

    it("one that raises when it is called", helper.task(function()
      local function oops() error "oops" end
      local err = fails({ routing = { route = oops } }, "the policy 'routing' fails in 'route': .*oops")
      assert.matches("oops", err.cause)
      fails({ routing = { keys = function() return {} .. "x" end } }, "the policy 'routing' fails in 'keys'")
      fails({ injection = { prepare = oops } }, "the policy 'injection' fails in 'prepare': .*oops")
      fails({ injection = { prepare = function() error { my = "trouble" } end } },
        "the policy 'injection' fails in 'prepare': an error without a text: {\"my\":\"trouble\"}")
      fails({ injection = policy_file "return { prepare = function() error 'oops' end }" },
        "the policy 'injection' %(.*/mine.lua%) fails in 'prepare'")
    end))

    it("one that returns the wrong shape", helper.task(function()
      fails({ routing = { route = function() return "x" end } }, "the policy 'routing' must return {key = string")
      fails({ routing = { route = function() return { key = 5 } end } }, "from 'route', not one whose 'key' is 5$")
      fails({ routing = { route = function() end } }, "or nil and a reason from 'route', not nothing$")
      fails({ routing = { keys = function() return "key" end } }, "the policy 'routing' must return a list of strings")
      fails({ routing = { keys = function() return { 5 } end } }, "the policy 'routing' must return a list of strings")
      fails({ injection = { prepare = function() return "text" end } }, "the policy 'injection' must return {text = ")
      fails({ injection = { prepare = function() return {} end } }, "the policy 'injection' must return {text = "
        .. ".* from 'prepare', not one without 'text'$")
      fails({ routing = { route = function() return { opts = { model = "opus" } } end } }, "the policy 'routing' must "
        .. "return {key = .* from 'route', not one with 'opts', which it does not know; did you mean 'options'%?")
      fails({ routing = { route = function() return { key = 5 }, "why" end } }, "must return {key = string")
      fails({ routing = { route = function() return { wait = true } end } }, "one that would wait and names no key")
      fails({ injection = { prepare = function() return { text = "a", resum = true } end } },
        "not one with 'resum', which it does not know; did you mean 'resume'%?")
      local backend <close> = parley.backend { cwd = place.cwd, mcp_servers = {},
        policies = { mcp_config = { write = function() end } } }
      assert.matches("the policy 'mcp_config' must return a path from 'write'",
        raised("ValueError", backend.mcp_config_argument, backend).message)
    end))

    it("one of the sessions that returns the wrong shape", helper.task(function()
      local path = policy_file "return { keystrokes = function() return { 'x' } end }"
      local function wrong() return 5 end
      fails({ delivery = path }, "the policy 'delivery' %(.*/mine.lua%) must return a list of {keys = string.*")
      fails({ delivery = { keystrokes = function() return { { keys = "x", holds = "x", rest = 5 } } end } },
        "must return a list of .* not a list whose item 1 is one with 'rest', which it does not know")
      fails({ delivery = { prepare = wrong } }, "the policy 'delivery' must return a string, or nil and a reason")
      fails({ delivery = { prepare = function() end } }, "from 'prepare', not nothing")
      fails({ delivery = { holds = wrong } }, "the policy 'delivery' must return one of whole, empty, other")
      fails({ settling = { judge = wrong } }, "the policy 'settling' must return {subtype = ")
      fails({ readiness = { state = wrong } }, "the policy 'readiness' must return one of starting, ready")
    end))

    it("one that sets options wrongly", helper.task(function()
      local function sets(options) return { routing = { route = function() return { options = options } end } } end
      fails(sets { modle = "x" }, "the options from the policy 'routing' have no option 'modle'.*model")
      fails(sets { model = 5 }, "option 'model' must be a value of type string")
      fails(sets { max_sessions = 3 }, "have no option 'max_sessions'")
      fails(sets { policies = {} }, "have no option 'policies'")
      fails(sets { session_id = "x" }, "have no option 'session_id'")
      fails(sets { accept = { "trsut" } }, "the options from the policy 'routing': option 'accept' .*'trust'")
      fails(sets { permission_mode = "sudo" }, "option 'permission_mode' must be one of")
      fails(sets { settings = { print } }, "the options from the policy 'routing': .*settings")
    end))
  end)

  it("of routing get the request, with what the caller adds", helper.task(function()
    local seen
    local backend <close> = place:backend { policies = { routing = { route = function(request)
      seen = request
      return {}
    end } } }
    local messages = with_history()
    talk(backend, messages, { tag = "blue", id = 7, messages = "not these" })
    assert.equal("blue", seen.tag)
    assert.equal(7, seen.id)
    assert.same(messages, seen.messages)
    assert.same(HISTORY, seen.history)
    assert.same(messages[3], seen.last)
  end))

  it("get copies: what they do to them has no effect on the caller's tables or on what is sent", helper.task(function()
    local function spoil(value, seen)
      if type(value) ~= "table" or seen[value] then return end
      seen[value] = true
      for _, item in pairs(value) do spoil(item, seen) end
      for name in pairs(value) do value[name] = nil end
      value.spoilt = true
    end
    local function spoiling(default)
      return function(...)
        local results = table.pack(default(...))
        for _, argument in ipairs { ... } do spoil(argument, {}) end
        return table.unpack(results, 1, results.n)
      end
    end
    local policies = {}
    for name, fields in pairs { routing = { "keys" }, mcp_config = { "write" }, readiness = { "state" },
      delivery = { "prepare", "keystrokes", "holds", "clear", "matches" }, settling = { "judge" } } do
      policies[name] = {}
      local default = require("parley.policy." .. name)
      for _, field in ipairs(fields) do policies[name][field] = spoiling(default[field]) end
    end
    function policies.routing.route(request)
      request.last.content, request.history[1].content = "changed", "changed"
      request.tag.spoilt = true
      return {}
    end
    policies.injection = { prepare = spoiling(require("parley.policy.injection.native_jsonl").prepare) }
    local messages, servers = with_history(), { files = { command = "mcp-files", args = json.array { "a" } } }
    messages[3].content = { { type = "text", text = "What is my name?" } }
    local backend <close> = place:backend { policies = policies, mcp_servers = servers, accept = { "trust" } }
    local seen = {}
    local _, _, going_on = talk(backend, messages, { tag = seen })
    assert.same({ "What is my name?" }, taken(place.fakes[1]))
    assert.same({ HISTORY[1], HISTORY[2], user { fake_backends.text "What is my name?" } }, messages)
    assert.same({}, seen)
    assert.equal('{"mcpServers":{"files":{"args":["a"],"command":"mcp-files"}}}',
      files.read(backend:mcp_config_argument()[1]))
    assert.same({ files = { command = "mcp-files", args = { "a" } } }, servers)
    assert.is_true(json.is_array(servers.files.args))
    assert.equal("echo: What is my name?", going_on[4].content[1].text)
  end))

  it("of routing find in keys what they have noted in the request", helper.task(function()
    local noted
    local backend <close> = place:backend { policies = { routing = {
      route = function(request)
        request.noted = "mine"
        return {}
      end,
      keys = function(request, answer)
        noted = { request.noted, request.last == request.messages[1], answer.events[#answer.events]:text() }
        return {}
      end,
    } } }
    talk(backend, { user "hi" })
    assert.same({ "mine", true, "" }, noted)
  end))

  it("of dialogs get a copy of what may be accepted", helper.task(function()
    local accept, seen = { "trust" }, {}
    local backend, answered
    backend = place:backend({ policies = {
      readiness = { state = function() return answered and "ready" or "dialog" end },
      dialogs = {
        recognize = function() return { kind = "mine", text = "?", choices = { "yes" } } end,
        decide = function(_, given)
          table.insert(seen, #given)
          table.insert(given, "bypass")
          answered = #seen == 2
          return { keys = "" }
        end,
      },
    } }, {}, { accept = accept })
    local _ <close> = backend
    talk(backend, { user "hi" })
    assert.same({ 1, 1 }, seen)
    assert.same({ "trust" }, accept)
  end))

  describe("that do not route leave", function()
    local function refused(request)
      local backend <close> = place:backend()
      return raised("ValueError", backend.complete, backend, { user "hi" }, request).message
    end

    it("an option in the request an error that says where it belongs", helper.task(function()
      assert.equal("a request's 'model' is for your routing policy, and there is none: give it to parley.backend, or "
        .. "as options = { model = … }", refused { model = "opus" })
      assert.equal("a request's 'max_sessions' is for your routing policy, and there is none: give it to "
        .. "parley.backend", refused { max_sessions = 1 })
      assert.matches("a request's 'modle' .* there is none; did you mean 'model'%?", refused { modle = "opus" })
      assert.equal("the options of the request have no option 'modle'; did you mean 'model'?",
        refused { options = { modle = "opus" } })
      assert.matches("the options of the request have no option 'max_sessions'",
        refused { options = { max_sessions = 1 } })
      local backend <close> = place:backend()
      raised("ValueError", backend.warm, backend, {}, { model = "opus" })
      raised("ValueError", backend.command, backend, {}, "/compact", { model = "opus" })
    end))

    it("what is no option alone, as a policy may come to want it", helper.task(function()
      local backend <close> = place:backend()
      assert.equal(1, talk(backend, { user "hi" }, { tag = "x", user = "ada", id = 7, metadata = {}, turn = 1 })
        .num_turns)
    end))
  end)

  it("of routing choose by a tag, and may store under several keys", helper.task(function()
    local backend <close> = place:backend { policies = { routing = {
      route = function(request) return { key = request.tag } end,
      keys = function(_, answer) return { "blue", "green", "after " .. answer.result.subtype } end,
    } } }
    local function turns(tag) return talk(backend, { user "hi" }, { tag = tag }).num_turns end
    assert.equal(1, turns "blue")
    assert.equal(2, turns "green")
    assert.equal(3, turns "after success")
    assert.equal(1, turns "red")
    assert.equal(1, turns(nil))
  end))

  it("of routing may refuse", helper.task(function()
    local backend <close> = place:backend { policies = { routing = { route = function() return nil, "too late" end } } }
    assert.matches("the policy 'routing' refuses the request: too late",
      raised("ValueError", backend.complete, backend, { user "hi" }).message)
    assert.same({}, place.fakes)
  end))

  it("of routing may wait", helper.task(function()
    local backend <close> = place:backend { policies = { routing = {
      route = function()
        helper.tick()
        return { key = "x" }
      end,
      keys = function()
        helper.tick()
        return { "x" }
      end,
    } } }
    talk(backend, { user "hi" })
    assert.equal(2, talk(backend, { user "hi" }).num_turns)
  end))

  it("never mix up sessions of different options", helper.task(function()
    local backend <close> = place:backend { policies = { routing = {
      route = function(request) return { key = "same", options = request.tag and { system_prompt = request.tag } } end,
      keys = function() return { "same" } end,
    } } }
    local function turns(tag) return talk(backend, { user "hi" }, { tag = tag }).num_turns end
    assert.equal(1, turns "pirate")
    assert.equal(1, turns "poet")
    assert.equal(1, turns(nil))
    assert.equal(2, turns "pirate")
    assert.equal(2, turns(nil))
  end))

  it("of a message that cannot be sent with their options are refused", helper.task(function()
    local backend <close> = place:backend { policies = { routing = {
      route = function() return { options = { mentions = "refuse" } } end } } }
    local err = raised("ValueError", backend.complete, backend, { user "see @/etc/passwd" })
    assert.matches("mentions a file", err.message)
  end))

  it("that fail after the turn lose no session and no place", helper.task(function()
    local is_bad = true
    local backend <close> = place:backend { max_sessions = 1, policies = { routing = { keys = function()
      return is_bad and 5 or {}
    end } } }
    raised("ValueError", collect, backend, { user "hi" })
    assert.equal(0, backend:live_session_count())
    is_bad = false
    assert.equal(1, talk(backend, { user "hi" }).num_turns)
  end))
end)
