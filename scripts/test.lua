-- Runs busted specs, with the test kit at hand.
local uv = require "luv"
local cli = require "parley.command.cli"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

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

--- The line of a spec, or of what it has called, on the way to where an error was raised in a task.
local function line_of(traceback, spec)
  local nearest
  for file, line in traceback:gmatch "\n%s*([^\n]-):(%d+): in " do
    local is_spec = file:gsub("^%./", "") == spec:gsub("^%./", "")
    if is_spec then return file, tonumber(line) end
    if not nearest and not file:find "^lua/parley/" then nearest = { file, tonumber(line) } end
  end
  return table.unpack(nearest or {})
end

--- Has busted name the spec's line for an error object that a task has raised; it takes the line of `error`, which is
--- the library's.
local function place_errors()
  local make = require "busted.core"
  package.loaded["busted.core"] = function()
    local busted = make()
    local get_trace = busted.getTrace
    function busted.getTrace(element, level, message)
      local trace = get_trace(element, (level or 3) + 1, message)
      local traceback, spec = errors.is(message) and task.traceback(message), busted.getFile(element)
      if not (traceback and spec) then return trace end
      local file, line = line_of(traceback, spec.name)
      if file then trace.short_src, trace.currentline, trace.traceback = file, line, traceback end
      return trace
    end
    return busted
  end
end

--- busted looks for its folder where no other is named; whoever has none yet is told what to name.
local function check_folder(words)
  for _, word in ipairs(words) do
    if not word:find "^%-" or word == "--version" then return end
  end
  if uv.fs_stat "spec" or uv.fs_stat ".busted" then return end
  error(errors.value_error(("there is no folder 'spec' in %s: name a file or a folder of specs"):format(uv.cwd())), 0)
end

local function main(arguments)
  check_folder(arguments.words)
  package.path = PATHS .. package.path
  local run = load_runner()
  place_errors()
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
