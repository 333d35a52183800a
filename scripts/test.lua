-- Runs busted specs, with the test kit at hand.
local cli = require "parley.command.cli"
local errors = require "parley.base.errors"

local PATHS = "./?.lua;./?/init.lua;./lua/?.lua;./lua/?/init.lua;"

local function define(parser)
  parser:handle_options(false) -- they are busted's
  parser:argument("words", "Folders and files of specs (default: spec), and busted's options."):args "*"
end

--- busted's command line program, as /usr/bin/busted gets it.
local function load_runner()
  local ok, runner = pcall(require, "busted.runner")
  if ok then return runner end
  local missing = tostring(runner):match "module '([^']+)' not found"
  if not missing then error(runner, 0) end
  error(errors.value_error(missing == "busted.runner"
    and "busted is not installed (apt install lua-busted, or luarocks --lua-version 5.4 install busted)"
    or ("busted is not installed whole: its module '%s' is missing"):format(missing)), 0)
end

local function main(arguments)
  package.path = PATHS .. package.path
  local run = load_runner()
  arg = { [0] = "busted", table.unpack(arguments.words) } -- luacheck: globals arg
  -- It ends with os.exit when a spec fails, and calls itself by the name of the chunk that calls it.
  load("local run = ... run { standalone = false }", "@busted")(run)
end

return cli.run({
  name = "test", summary = "Runs busted specs inside the host, with parley.testing at hand.", define = define,
  main = main, examples = [[
  parley test
  parley test spec/routing_spec.lua --filter weather
  parley test -o TAP]],
}, ...)
