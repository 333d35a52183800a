-- Behaves as claude does, for tests: a simulated claude on this terminal.
local uv = require "luv"
local cli = require "parley.command.cli"
local errors = require "parley.base.errors"
local profiles = require "parley.testing.stand_in.profiles"
local script_of = require "parley.testing.script"
local stand_in = require "parley.testing.stand_in"

--- Its own options and how many words each is. They stand first; all from the first other word on is `claude`'s.
local OWN = { ["--profile"] = 2, ["--script"] = 2, ["--log"] = 2, ["--new-home"] = 1 }
local own, words = {}, { ... }
if words[1] == "--help" or words[1] == "-h" then own, words = words, own end
while OWN[words[1]] do
  for _ = 1, OWN[words[1]] do table.insert(own, table.remove(words, 1)) end
end

local function define(parser)
  cli.offer(parser:option("--profile", "Which version to be: " .. table.concat(profiles.versions, ", ") .. ".")
    :argname "VERSION", profiles.versions)
  parser:option("--script", "What to answer: a Lua file that returns what the head of lua/parley/testing/init.lua "
    .. "describes; default: every message is echoed."):argname "FILE"
  parser:option("--log", "Append what is received and taken, one JSON object a line."):argname "FILE"
  parser:flag("--new-home", "Run in a home and a folder made for it, past claude's first dialogs; removed at the end.")
  parser:argument("words", "claude's own options, behind these."):args "*"
end

local function main(arguments)
  local script = arguments.script and script_of.load(arguments.script) or {}
  script.profile = arguments.profile or script.profile
  script.log = arguments.log or script.log
  if not profiles.get(script.profile) then
    error(errors.value_error(("no profile '%s'; there are %s"):format(script.profile,
      table.concat(profiles.versions, ", "))), 0)
  end
  -- The kit brings the world with it, for which no start should wait that has a home already.
  local kit <close> = arguments.new_home and require("parley.testing").kit() or nil
  if kit then
    for _, name in ipairs { "HOME", "CLAUDE_CONFIG_DIR", "IS_SANDBOX" } do uv.os_setenv(name, kit.environment[name]) end
    assert(uv.chdir(kit.cwd))
  end
  return stand_in.run(words, script)
end

return cli.run({
  name = "stand-in", summary = "Behaves as claude does, for tests: a simulated claude on this terminal.",
  define = define, main = main, examples = [[
  parley stand-in --new-home --profile 2.1.197         # Ctrl-C twice leaves
  parley stand-in --new-home --script answers.lua --log log.jsonl --permission-mode default
  parley chat --stand-in]],
}, table.unpack(own))
