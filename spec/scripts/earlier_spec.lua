-- How `ask --continue`, `ask --session` and `chat --resume` go on with a session: in its own transcript, or in another.
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local parley = require "parley"
local sleep_index = require "parley.sleep.index"
local testing = require "parley.testing"
local uv = require "luv"

describe("a command that goes on with a session", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function run(kit, words, input)
    local argv = { helper.host, words[1], "--executable", kit.executable }
    table.move(words, 2, #words, #argv + 1, argv)
    return helper.run(argv, { env = helper.environment({ TERM = "dumb" }, kit.environment), cwd = kit.cwd,
      input = input })
  end

  local function first_session(kit)
    return table.concat(kit:events "started"[1].argv, " "):match "%-%-session%-id (%S+)"
  end

  local function last_argv(kit)
    local started = kit:events "started"
    return table.concat(started[#started].argv, " ")
  end

  --- The texts of the user and the kinds of blocks in a transcript.
  local function told(kit, id)
    local texts, kinds = {}, {}
    for _, record in ipairs(kit:transcript(id)) do
      local content = record.message and record.message.content
      for _, block in ipairs(type(content) == "table" and content or { { type = "text", text = content } }) do
        kinds[block.type] = true
        if record.type == "user" then table.insert(texts, block.text) end
      end
    end
    return table.concat(texts, "|"), kinds
  end

  for _, profile in ipairs { "2.1.330", "2.1.197", "2.1.110" } do
    it("resumes its transcript, with tools and their results, on " .. profile, helper.task(function()
      local kit <close> = testing.kit { profile = profile }
      assert.equal(0, run(kit, { "ask", "USETOOL" }).status)
      local id = first_session(kit)
      for _, words in ipairs { { "ask", "--continue", "and then?" }, { "ask", "--session", id, "and then?" } } do
        local program = run(kit, words)
        assert.same({ "echo: and then?\n", "" }, { program.output, program.errors })
        assert.matches("--resume " .. id, last_argv(kit), 1, true)
      end
      local program = run(kit, { "chat", "--resume" }, "once more\nand again\n")
      assert.equal("echo: once more\necho: and again\n", program.output, program.errors)
      assert.matches("--resume " .. id, last_argv(kit), 1, true)
      assert.equal(4, #kit:events "started")
      local texts, kinds = told(kit, id)
      assert.equal("USETOOL|and then?|and then?|once more|and again", texts)
      assert.same({ true, true }, { kinds.tool_use, kinds.tool_result })
    end))
  end

  it("counts its turns on", helper.task(function()
    local kit <close> = testing.kit()
    assert.equal(0, run(kit, { "chat" }, "one\ntwo\n").status)
    local id = first_session(kit)
    assert.equal(0, run(kit, { "ask", "--continue", "three" }).status)
    assert.equal(0, run(kit, { "ask", "--session", id, "four" }).status)
    assert.equal(0, run(kit, { "chat", "--resume" }, "five\n").status)
    local store <close> = assert(sleep_index.open { path = kit.home .. "/.local/state/parley/sessions.db" })
    assert.equal(5, store:get(id).turns)
  end))

  it("leaves one alone that is open elsewhere, and says so", helper.task(function()
    local kit <close> = testing.kit()
    local backend <close> = parley.backend(kit.options)
    local id = backend:conversation():ask("hello").result.session_id
    local before = files.read(kit:transcript_path(id))
    local program = run(kit, { "ask", "--continue", "and then?" })
    assert.equal("echo: and then?\n", program.output)
    assert.equal(("parley: the session is open in process %d: another one goes on with what was said\n"):format(
      kit:events "started"[1].pid), program.errors)
    assert.not_matches(id, last_argv(kit), 1, true)
    assert.equal(before, files.read(kit:transcript_path(id)))
    local other = last_argv(kit):match "%-%-resume (%S+)"
    assert.equal("hello|and then?", (told(kit, other)))
    -- A file that a program has left behind when it was killed does not count.
    backend:close()
    helper.write(kit.home .. "/.claude/sessions/4194305.json", json.encode { sessionId = other }) -- above any process
    assert.equal("", run(kit, { "ask", "--continue", "x" }).errors)
    assert.matches("--resume " .. other, last_argv(kit), 1, true)
  end))

  it("has another one go on with one of another folder, and with a copy of a transcript", helper.task(function()
    local kit <close> = testing.kit()
    local other = kit.cwd .. "/below"
    uv.fs_mkdir(other, 448)
    helper.write(kit.home .. "/.claude/.claude.json", json.encode { hasCompletedOnboarding = true, theme = "dark",
      projects = { [kit.cwd] = { hasTrustDialogAccepted = true }, [other] = { hasTrustDialogAccepted = true } } })
    assert.equal(0, run(kit, { "ask", "hello" }).status)
    local id = first_session(kit)
    local copy = helper.write(kit.folder .. "/" .. id .. ".jsonl", files.read(kit:transcript_path(id)))
    for _, words in ipairs { { "ask", "--session", id, "--cwd", other, "x" }, { "ask", "--session", copy, "x" } } do
      local program = run(kit, words)
      assert.equal("echo: x\n", program.output)
      assert.equal("parley: it is a session of another folder: another one goes on with what was said\n",
        program.errors)
      assert.not_matches(id, last_argv(kit), 1, true)
    end
  end))

  it("has another one go on where the program refuses the transcript", helper.task(function()
    local kit <close> = testing.kit { profile = "2.1.110" }
    assert.equal(0, run(kit, { "ask", "hello" }).status)
    local id = first_session(kit)
    local path = kit:transcript_path(id)
    helper.write(path, (files.read(path):gsub('"timestamp":"[^"]*",', ""):gsub(',"timestamp":"[^"]*"', "")))
    local program = run(kit, { "ask", "--json", "--continue", "x" })
    assert.equal(0, program.status, program.errors)
    local events = helper.json_lines(program.output)
    assert.equal("injection_fallback", events[1].subtype)
    assert.matches("the program did not go on with the session " .. id, events[1].message, 1, true)
    assert.equal("echo: x", events[#events - 1].content[1].text)
  end))
end)
