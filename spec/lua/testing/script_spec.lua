--- What a kit's script may say.
local helper = require "spec.helper"
local profiles = require "parley.testing.stand_in.profiles"
local script = require "parley.testing.script"

local function complaint(given)
  local ok, err = pcall(script.check, given)
  assert.is_false(ok, "nothing was raised")
  assert.equal("ValueError", err.code, tostring(err))
  return err.message
end

local function of_answer(answer) return complaint { answers = { answer } } end

describe("a script", function()
  it("may say all that is documented", function()
    local dialog = { title = "A", lines = { "b" }, choices = { "Yes", "No" }, selected = 2, numbered = false,
      footer = "c", waiting_for = "d" }
    local start = { exit_on = { No = 1, cancel = 0 } }
    for name, value in pairs(dialog) do start[name] = value end
    script.check {
      profile = "2.1.197", profile_changes = { status_file = "none", placeholder = false, composer_rows = 5 },
      startup_delay_ms = 0, initial_prompt = "x", flush_ms = 1.5, notification_ms = 10, start_dialogs = { start },
      faults = { lose_keys = 1, lose_returns = 2, lose_editor = 1, late_flush_ms = 3, late_status_ms = 5,
        late_redraw_ms = 6, dialog_ms = 4, dialog_at_return = true, never_ready = true,
        startup_exit = { text = "x", status = 3 }, ignore_sigterm = true, survive_hangup = true, stop_reading = false },
      answers = {
        { on = "a", times = 2, text = "b", thinking = "c", stop_reason = "end_turn", delay_ms = 1, block_delay_ms = 2,
          dialog = dialog },
        { on = function() return true end, blocks = { { type = "text", text = "x" }, { type = "mine", any = 1 } } },
        { tool = { name = "Bash", input = { command = "ls" }, result = "", is_error = true, duration_ms = 1,
          permission = false, leaves = "sleep 1 &", works_ms = 1,
          question = { text = "?", choices = { "a" } } }, after = "x", crash = "during_tool",
          crash_status = 3 },
        { steps = { { text = "a", tools = { { name = "Read" } } }, { empty = true, compacts = true } }, reorder = true,
          half_line_ms = 5, omit_turn_duration = true },
        { api_error = { status = 429, text = "a", error = "b", retries = 1, retry_ms = 2 } },
        { retries = 1, retry_ms = 2, own_turn = { text = "x", after_ms = 1, status = "shell" } },
        { on = "/skill", fork = { text = "x", after_ms = 1 } },
        { hang = true }, { empty = true, stop_reason = "one_of_tomorrow" },
      },
    }
  end)

  it("may be of any profile, and change any fact to what another profile has", function()
    for _, version in ipairs(profiles.versions) do
      script.check { profile = version, profile_changes = profiles.get(version) }
    end
  end)

  for given, message in pairs {
    [{ anwsers = {} }] = "the script has 'anwsers', which means nothing there; did you mean 'answers'?",
    [{ answers = { text = "x" } }] = "the script's answers must be a list",
    [{ answers = "x" }] = "the script's answers must be a table, not \"x\"",
    [{ flush_ms = "5" }] = "the script's flush_ms must be milliseconds, not \"5\"",
    [{ flush_ms = -1 }] = "the script's flush_ms must be milliseconds, not -1",
    [{ profile = "2.1.331" }] = "the script's profile must be one of 2.1.50, 2.1.110, 2.1.197, 2.1.330, not "
      .. "\"2.1.331\"; did you mean '2.1.330'?",
    [{ profile_changes = { sttus_file = "none" } }] = "the script's profile_changes has 'sttus_file', which means "
      .. "nothing there; did you mean 'status_file'?",
    [{ profile_changes = { status_file = "non" } }] = "the script's profile_changes.status_file must be one of none, "
      .. "plain, named, live, not \"non\"; did you mean 'none'?",
    [{ profile_changes = { turn_duration = 1 } }] = "the script's profile_changes.turn_duration must be a boolean, "
      .. "not 1",
    [{ profile_changes = { paste_settle = { cold_return_ms = 100 } } }] = "the script's profile_changes.paste_settle "
      .. "must have 'warm_return_ms'",
    [{ profile_changes = { head = { "modes" } } }] = "the script's profile_changes.head[1] must be one of mode, "
      .. "permission-mode, file-history-snapshot, not \"modes\"; did you mean 'mode'?",
    [{ profile_changes = { pictures = "line" } }] = "the script's profile_changes.pictures must be one of lines, "
      .. "sentences, not \"line\"; did you mean 'lines'?",
    [{ faults = { lose_key = 1 } }] = "the script's faults has 'lose_key', which means nothing there; did you mean "
      .. "'lose_keys'?",
    [{ faults = { lose_keys = true } }] = "the script's faults.lose_keys must be a positive whole number, not true",
    [{ start_dialogs = { { title = "a", choices = { "b" }, exit_on = { later = 1 } } } }] =
      "the script's start_dialogs[1].exit_on must be one of b, cancel, not \"later\"",
    [{ start_dialogs = { { title = "a", choices = {} } } }] =
      "the script's start_dialogs[1].choices must not be empty",
    [{ start_dialogs = { { choices = { "a" } } } }] = "the script's start_dialogs[1] must have 'title'",
  } do
    it("is refused when it says: " .. message, function() assert.equal(message, complaint(given)) end)
  end

  for answer, message in pairs {
    [{ txt = "x" }] = "has 'txt', which means nothing there; did you mean 'text'?",
    [{ text = 5 }] = ".text must be a text, not 5",
    [{ crash = "after_usr" }] = ".crash must be one of before_record, after_user, mid_line, during_tool, after_answer, "
      .. "not \"after_usr\"; did you mean 'after_user'?",
    [{ crash = true }] = ".crash must be one of before_record, after_user, mid_line, during_tool, after_answer, not "
      .. "true",
    [{ tool = { name = "AskUserQuestion", question = true } }] = ".tool.question must be a table, not true",
    [{ tool = { name = "AskUserQuestion", question = { text = "a" } } }] = ".tool.question must have 'choices'",
    [{ tool = { input = {} } }] = ".tool must have 'name'",
    [{ tool = { name = "Bash", reslut = "x" } }] = ".tool has 'reslut', which means nothing there; did you mean "
      .. "'result'?",
    [{ tool = { name = "Bash", input = { command = 5 } } }] = ".tool.input.command must be a text, not 5",
    [{ tools = { name = "Bash" } }] = ".tools must be a list",
    [{ tool = { name = "A" }, tools = { { name = "B" } } }] = "has both 'tool' and 'tools'",
    [{ blocks = { { text = "x" } } }] = ".blocks[1] must have 'type'",
    [{ blocks = { { type = "txt", text = "x" } } }] = ".blocks[1].type is \"txt\"; did you mean 'text'?",
    [{ blocks = { { type = "text", txt = "x" } } }] = ".blocks[1].text must be a text, not nothing",
    [{ stop_reason = "max_token" }] = ".stop_reason is \"max_token\"; did you mean 'max_tokens'?",
    [{ on = 5 }] = ".on must be a text or a function, not 5",
    [{ times = 0 }] = ".times must be a positive whole number, not 0",
    [{ text = "x", steps = { { text = "y" } } }] = "has 'text' beside 'steps': it belongs into one of them",
    [{ steps = {} }] = ".steps must not be empty",
    [{ steps = { { text = "y", on = "z" } } }] = ".steps[1] has 'on', which means nothing there",
    [{ text = "x", after = "y" }] = "has 'after' and no tool call at its end that it would come after",
    [{ text = "x", empty = true }] = "is 'empty' and has 'text'",
    [{ crash = "during_tool", text = "x" }] = "crashes during_tool and has no tool call",
    [{ crash_status = 3 }] = "has 'crash_status' and no 'crash'",
    [{ retry_ms = 3 }] = "has 'retry_ms' and no 'retries'",
    [{ text = "x", api_error = { status = 400 } }] = "has 'text' beside 'api_error', which comes instead of it",
    [{ api_error = 429 }] = ".api_error must be a table, not 429",
    [{ api_error = { status = "429" } }] = ".api_error.status must be a whole number, not \"429\"",
    [{ own_turn = { status = "idel" } }] = ".own_turn.status must be one of idle, busy, waiting, shell, not \"idel\"; "
      .. "did you mean 'idle'?",
    [{ dialog = { title = "a", choices = { "b" }, selected = 2 } }] = ".dialog.selected is 2, and there are 1 choices",
    [{ hang = 1 }] = ".hang must be true or false, not 1",
  } do
    it("is refused when an answer says: " .. message, function()
      local where = message:find "^%." and "the script's answers[1]" or "the script's answers[1] "
      assert.equal(where .. message, of_answer(answer))
    end)
  end

  it("is read from a file, which may make it, and checked", function()
    finally(helper.remove_folders)
    local function load_text(words)
      return script.load(helper.write(helper.temporary_folder() .. "/answers.lua", words))
    end
    assert.same({ flush_ms = 3 }, load_text "return { flush_ms = 3 }")
    assert.same({ flush_ms = 3 }, load_text "return function(core) return { flush_ms = core.json and 3 } end")
    for words, message in pairs {
      ["return {"] = "cannot read the script: ", ["return 5"] = "answers.lua' must return a table, not a number",
      ["return { flsh_ms = 3 }"] = "did you mean 'flush_ms'?",
    } do
      local ok, err = pcall(load_text, words)
      assert.is_false(ok)
      assert.matches(message, err.message, 1, true)
    end
  end)
end)
