-- Mistakes that people make with the commands: each ends with one line that names what was wrong and says what was
-- expected, before anything is started. Those with the library are in spec/lua/backend/mistakes_spec.lua.
local files = require "parley.base.files"
local helper = require "spec.helper"
local uv = require "luv"

local KINDS = "routing, injection, mcp_config, readiness, dialogs, delivery, settling, permission, sleeping"

--- Files that are there, by their names.
local FILES = {
  ["good.jsonl"] = '{"id":"a","turns":["hi"]}\n',
  ["note.txt"] = "just a note\n",
  ["five.lua"] = "return 5\n",
  ["broken.lua"] = "return {\n",
  ["route5.lua"] = "return { route = 5 }\n",
  ["rout.lua"] = "return { rout = function() end }\n",
  ["nameless.lua"] = "return { { name = 'x' } }\n",
  ["int.json"] = '{"type":"int"}\n',
  ["message.json"] = '{"role":"user"}\n',
  ["answers.jsonl"] = '{"id":"a","line":1,"verdict":"success"}\n',
}

--- Lines of a batch, each with what is said of it.
local LINES = {
  ['{"id":"a","turn":["hi"]}'] = "unknown field 'turn'; did you mean 'turns'?",
  ['{"turns":"hi"}'] = "turns must be a list of texts",
  ['{"turns":[]}'] = "there is no turn to send",
  ['{"turns":["x"],"model":5}'] = "model must be a text",
  ['{"turns":["x"],"timeout":"5"}'] = "timeout must be a number of seconds above 0",
  ['{"turns":["x"],"permission_mode":"bypas"}'] = "permission_mode must be one of acceptEdits, ",
  ['{"turns":["x"],"allowed_tools":"Read"}'] = "allowed_tools must be a list of texts",
  ['{"turns":["x"],"id":{}}'] = "id must be a text or a whole number",
  ['{"turns":["x"],"tools":"none.lua"}'] = "the tools 'none.lua' cannot be loaded: cannot open none.lua",
  ['{"turns":["x"],"expect":{"patern":"x"}}'] = "expect must be a text, {\"contains\": text}, ",
  ['{"turns":["x"],"expect":{"pattern":"["}}'] = "expect: the pattern \"[\" is wrong: a set lacks its",
  ['{"turns":["x"],"schema":{"type":"int"}}'] = "schema.type must be one of object, array, ",
  ['{"messages":[{"role":"usr","content":"x"}]}'] = "messages[1] has the role \"usr\", which must be \"user\" or ",
  ['{"turns":["/compact"]}'] = "cannot be sent: the program would run it as the command '/compact'",
  ['{"turns":["hi"]'] = "not JSON",
  ["hello"] = "not JSON",
}

--- Command lines, each with what is said of it.
local COMMANDS = {
  -- Words that are missing, or too many.
  ["ask"] = "missing argument 'message' (see parley ask --help)",
  ["ask --stand-in What is this?"] = "'is' is one argument too many: parley ask takes 1; words that belong together "
    .. "stand in quotes (see parley ask --help)",
  ["ask -m haiku --costs one two"] = "'two' is one argument too many",
  ["chat hello"] = "'hello' is one argument too many: parley chat takes none",
  ["batch"] = "missing argument 'input'",
  ["batch one.jsonl two.jsonl"] = "'two.jsonl' is one argument too many",
  ["new"] = "missing argument 'what': one of batch, policy, spec",
  ["new policy"] = "missing argument 'name'",
  ["show"] = "missing argument 'session'",
  ["report"] = "missing argument 'results'",
  -- Names that are misspelt.
  ["aks hi"] = "no command and no file 'aks'; did you mean 'ask'?",
  ["--verion"] = "unknown option '--verion'; did you mean '--version'?",
  ["ask --modle x hi"] = "unknown option '--modle'; did you mean '--model'?",
  ["ask --model"] = "option '--model' requires an argument",
  ["ask --costs=yes hi"] = "option '--costs' does not take arguments",
  ["ask --permission-mode pln hi"] = "option 'permission_mode' must be one of acceptEdits, auto, ",
  ["ask --accept tru hi"] = "option 'accept' must name dialogs, each one of trust, bypass, ",
  ["ask --injection native hi"] = "option 'history_injection_mode' must be one of native_jsonl, concat_message, not "
    .. "\"native\"",
  ["ask --first-message type hi"] = "option 'first_message' must be one of typed, argument, not \"type\"",
  ["new polcy x"] = "there is no 'polcy' to begin with, but batch, policy, spec; did you mean 'policy'?",
  ["new policy --kind dialog x"] = "there is no policy 'dialog', but " .. KINDS .. "; did you mean 'dialogs'?",
  ["new policy a/"] = "'a/' is no name: letters, digits, - and _, and maybe a folder before it",
  ["help aks"] = "no command 'aks'; did you mean 'ask'?",
  ["stand-in --profile 1"] = "no profile '1'; there are 2.1.",
  -- Values of another kind.
  ["ask --turn-timeout soon hi"] = "--turn-timeout: 'soon' is not a number of seconds",
  ["ask --startup-timeout -- hi"] = "option '--startup-timeout' requires an argument",
  ["ask --env FOO hi"] = "--env: 'FOO' is not of the form NAME=VALUE",
  ["batch good.jsonl -j 0"] = "--jobs: '0' is not a whole number from 1 on",
  ["batch good.jsonl --retries many"] = "--retries: 'many' is not a whole number from 0 on",
  ["batch good.jsonl --retries -1"] = "as the argument of --retries it is joined to it: '--retries=-1'",
  ["batch good.jsonl --shard 3"] = "--shard: '3' is not of the form I/N with I from 1 to N",
  ["batch good.jsonl --shard 4/3"] = "--shard: '4/3' is not of the form I/N with I from 1 to N",
  ["batch good.jsonl --max-cost free"] = "--max-cost: 'free' is not a number of US dollars above 0",
  ["batch good.jsonl --retry-wait long"] = "--retry-wait: 'long' is not a number of seconds",
  ["sessions --limit all"] = "--limit: 'all' is not a whole number from 1 on",
  -- Files that are not there, or are something else.
  ["ask -f none.txt hi"] = "cannot read 'none.txt': No such file",
  ["ask --image note.txt hi"] = "--image 'note.txt' is no picture (png, jpg, gif, webp)",
  ["ask --schema note.txt hi"] = "note.txt is no JSON",
  ["ask --schema int.json hi"] = "schema.type must be one of object, array, ",
  ["ask --history note.txt hi"] = "note.txt is no JSON",
  ["ask --history message.json hi"] = "message.json: messages[1] has no content",
  ["ask --mcp-config none.json hi"] = "option 'mcp_config' names a file that cannot be read: 'none.json'",
  ["ask --cwd none hi"] = "the working directory 'none' cannot be used: no such file",
  ["ask --executable none hi"] = "cannot run 'none': no such program",
  ["batch none.jsonl"] = "cannot read 'none.jsonl': no such file",
  ["batch five.lua"] = "the script 'five.lua' must return an iterator, not a number",
  ["batch good.jsonl -o good.jsonl"] = "'good.jsonl' is both the input and the output",
  ["batch good.jsonl -o note.txt"] = "'note.txt' is there already and is no output of a batch: give another name",
  ["batch good.jsonl -o answers.jsonl"] = "'answers.jsonl' holds results already: give --resume to go on with them",
  ["batch good.jsonl -o note.txt --resume"] = "'note.txt' cannot be resumed: its line 1 is no result of a batch",
  ["batch good.jsonl -o none/x.jsonl"] = "cannot write 'none/x.jsonl': no such file",
  ["batch good.jsonl --resume"] = "--resume and --retry-failed need a file of results: give --output",
  ["batch good.jsonl --report r.html"] = "--report needs a file of results: give --output",
  ["batch good.jsonl -o x.jsonl --report none/r.html"] = "the report cannot go to 'none/r.html': there is no folder "
    .. "'none'",
  ["batch good.jsonl --tools none.lua"] = "the tools 'none.lua' cannot be loaded: cannot open none.lua",
  ["batch good.jsonl --tools nameless.lua"] = "('x'): description must be a text, not nothing",
  ["report note.txt"] = "'note.txt' is no output of a batch: its line 1 is no result",
  ["show none"] = "no session and no file 'none' (parley sessions --all lists them)",
  ["sessions none"] = "the working directory 'none' cannot be used",
  ["none.lua"] = "cannot read the script: none.lua",
  ["broken.lua"] = "broken.lua:2: unexpected symbol near <eof>",
  -- Sessions and policies.
  ["ask --stand-in --continue hi"] = "there is no conversation of the folder",
  ["ask --stand-in --session none hi"] = "no session and no file 'none' (parley sessions --all lists them)",
  ["ask --session a --continue hi"] = "give one of --history, --continue and --session",
  ["chat --stand-in --resume none"] = "no session and no file 'none' (parley sessions --all lists them)",
  ["ask --policy route5.lua hi"] = "--policy: 'route5.lua' is not of the form NAME=FILE",
  ["ask --policy routin=route5.lua hi"] = "there is no policy 'routin': it must be one of " .. KINDS
    .. "; did you mean 'routing'?",
  ["ask --policy routing=none.lua hi"] = "the policy 'routing' (none.lua) cannot be loaded: cannot open none.lua",
  ["ask --policy routing=five.lua hi"] = "the policy 'routing' (five.lua) must be a table of functions, not a number",
  ["ask --policy routing=route5.lua hi"] = "the policy 'routing' (route5.lua): 'route' must be a function, not a ",
  ["ask --policy routing=rout.lua hi"] = "has 'rout', which no such policy has; did you mean 'route'?",
  ["ask /compact"] = "cannot be sent: the program would run it as the command '/compact'",
}

describe("a mistake with the commands:", function()
  local check_leaks, folder, home

  before_each(function()
    check_leaks = helper.leaks()
    folder, home = helper.temporary_folder(), helper.temporary_folder()
    for name, text in pairs(FILES) do helper.write(folder .. "/" .. name, text) end
  end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function run(words)
    return helper.run({ helper.host, table.unpack(words) },
      { env = helper.environment { HOME = home, TERM = "dumb" }, cwd = folder })
  end

  for line, words in pairs(COMMANDS) do
    it("parley " .. line, helper.task(function()
      local list = {}
      for word in line:gmatch "%S+" do table.insert(list, word) end
      local before = files.names(folder)
      local program = run(list)
      assert.equal(1, program.status)
      assert.equal("", program.output)
      assert.truthy(program.errors:find(words, 1, true), program.errors)
      assert.matches("^parley: [^\n]*\n$", program.errors)
      assert.same(before, files.names(folder))
      for name, text in pairs(FILES) do assert.equal(text, files.read(folder .. "/" .. name)) end
    end))
  end

  it("a line of a batch that is none fails by itself, and is told of with its number", helper.task(function()
    local input, expected = { '{"id":"fine","turns":["hi"]}' }, {}
    for line, words in pairs(LINES) do
      table.insert(input, line)
      expected[#input] = words
    end
    helper.write(folder .. "/input.jsonl", table.concat(input, "\n") .. "\n")
    local program = run { "batch", "input.jsonl", "--stand-in" }
    assert.equal(1, program.status)
    local results = helper.json_lines(program.output)
    assert.equal(#input, #results)
    for _, result in ipairs(results) do
      local words = expected[result.line]
      assert.equal(words and "failed" or "success", result.verdict)
      if words then
        assert.truthy(result.error.message:find(words, 1, true), result.error.message)
        assert.truthy(program.errors:find(("line %d[^\n]* failed: ValueError: "):format(result.line)), program.errors)
      end
    end
  end))

  it("at least forty kinds are looked at", function()
    local count = 0
    for _ in pairs(COMMANDS) do count = count + 1 end
    assert.is_true(count >= 40, count)
    assert.is_truthy(uv.fs_stat "spec/lua/backend/mistakes_spec.lua")
  end)
end)
