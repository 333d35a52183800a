--- The host's command line: what to run, how the main task ends, what a signal does.
---
--- `src/main.c` calls the function that this chunk is with the command line and what it carries inside.
local host, argv = ...

-- The library inside the host comes first: one file works from any folder, and always with its own version.
table.insert(package.searchers, 2, function(name)
  local stem = "lua/" .. name:gsub("%.", "/")
  for _, path in ipairs { stem .. ".lua", stem .. "/init.lua" } do
    local chunk = host.load_bundled(path)
    if chunk then return chunk, path end
  end
  return ("\n\tnothing in the host for '%s'"):format(name)
end)
package.loaded["parley.bundle"] = { files = host.files, read = host.read_bundled, version = host.version }

local uv = require "luv"
local errors = require "parley.base.errors"
local layout = require "parley.command.layout"
local paint = require "parley.command.paint"
local stdin = require "parley.command.stdin"
local stdout = require "parley.command.stdout"
local suggest = require "parley.base.suggest"
local task = require "parley.base.task"

local SYNOPSIS = {
  { "parley [--traceback] SCRIPT [ARG…]", "run a Lua file as the main task" },
  { "parley [--traceback] COMMAND [ARG…]", "run one of the commands below" },
  { "parley [--traceback] -e CHUNK [ARG…]", "run a line of Lua" },
  { "parley [--traceback] - [ARG…]", "run Lua from standard input" },
  { "parley --version | --help", "print the version, or this" },
}
local PROSE = table.concat({
  "A script may wait (parley.task), and may return its exit status. Exit status: 0, 1 for an error, 128 and the",
  "signal's number after SIGINT, SIGTERM or SIGHUP; a second one of the same kind (later than a second) ends at once.",
  "141, without a message, when the reader of standard output has gone.\n--traceback adds to an error where it came",
  "from.",
}, " ")

local function commands()
  local names = {}
  for _, path in ipairs(host.files) do
    local name = path:match "^scripts/([%w-]+)%.lua$"
    if name then table.insert(names, name) end
  end
  return names
end

local function summary(name)
  return host.read_bundled("scripts/" .. name .. ".lua"):match "^%-%-%-? ?([^\n]*)" or ""
end

local function help()
  local width, rows = layout.width(), {}
  for i, name in ipairs(commands()) do rows[i] = { name, summary(name) } end
  return ("Usage:\n%s\n\n%s\n\nCommands (each has --help):\n%s\n"):format(layout.table(SYNOPSIS, width, "  "),
    layout.prose(PROSE, width), layout.table(rows, width, "  "))
end
local bundle = package.loaded["parley.bundle"]
bundle.synopsis, bundle.prose, bundle.help = SYNOPSIS, PROSE, help

local function usage_error(message)
  return errors.value_error(message .. " (see parley --help)")
end

local function read_script(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local text, problem = file:read "a" -- a folder opens and does not read
  file:close()
  if not text then return nil, path .. ": " .. problem end
  return text
end

--- Finds what the command line names.
---@return function chunk
---@return string name     what `arg[0]` will be
---@return integer first   index of the script's first argument
local function find_chunk(index)
  local word = argv[index]
  local text, name, path, why
  if word == "-e" then
    index = index + 1
    text, name = argv[index], "=(command line)"
    if not text then error(usage_error "-e needs a line of Lua", 0) end
  elseif word == "-" then
    text, name = stdin.read(), "=stdin"
  elseif host.read_bundled("scripts/" .. word .. ".lua") and not word:find "[/.]" then
    path = "scripts/" .. word .. ".lua"
    text, name, word = host.read_bundled(path), "@" .. path, word
  elseif word:sub(1, 1) == "-" then
    error(usage_error(("unknown option '%s'%s"):format(word,
      suggest.near(word, { "--version", "--help", "--traceback", "-e" }))), 0)
  else
    text, why = read_script(word)
    name = "@" .. word
    if not text and word:find "[/.]" then error(errors.value_error("cannot read the script: " .. why), 0) end
    if not text then
      error(usage_error(("no command and no file '%s'%s"):format(word, suggest.near(word, commands()))), 0)
    end
  end
  local chunk, problem = load(text:gsub("^#[^\n]*", "", 1), name, "t")
  if not chunk then error(errors.new("SyntaxError", problem), 0) end
  return chunk, word, index + 1
end

--- Cancels the main task on a signal. The C side sees to it that a second one kills.
local function watch_signals(main, on_signal)
  local pipe = uv.new_pipe(false)
  pipe:open(host.signal_descriptor)
  pipe:read_start(function(_, bytes)
    if not bytes then return end
    local number = bytes:byte()
    on_signal(number)
    main:cancel(errors.cancelled("interrupted by signal " .. number, { signal = number }))
  end)
  pipe:unref()
end

--- What an exit status says, as in `os.exit`; nil for what is none.
local function status_of(value)
  if type(value) == "boolean" then return value and 0 or 1 end
  if math.type(value) == "integer" and value >= 0 and value <= 255 then return value end
end

local function status_error(what, value)
  return errors.value_error(("%s %s: expected an exit status, 0 to 255, or a boolean"):format(what, value))
end

local function report(err, with_traceback)
  local text = errors.text(err)
  if not with_traceback then
    text = errors.on_one_line(text:gsub("\nstack traceback:.*", ""))
  end
  io.stderr:write("parley: ", paint.plain(text), "\n")
  if with_traceback then
    io.stderr:write(paint.plain(task.traceback(err) or ""), "\n")
    local screen = type(err) == "table" and err.screen
    if screen then io.stderr:write("last screen:\n", screen, "\n") end
  end
end

--- Tells of an error and gives its exit status.
local function fail(err, with_traceback)
  local status = stdout.quiet_status(err)
  if not status then report(err, with_traceback) end
  return status or 1
end

--- Runs what the command line names. Returns the exit status.
local function run(index, with_traceback)
  local signal, exit_status
  local root = task.new_root(function()
    local chunk, name, first = find_chunk(index)
    arg = { [0] = name, table.unpack(argv, first) } -- luacheck: globals arg
    return chunk(table.unpack(arg))
  end)
  watch_signals(root, function(number) signal = signal or number end)
  os.exit = function(status) -- luacheck: ignore 122
    exit_status = status == nil and 0 or status_of(status) or error(status_error("os.exit was called with", status), 0)
    local exit = errors.cancelled("os.exit was called", { exit_status = exit_status })
    root:cancel(exit)
    error(exit, 0)
  end
  task.pump(root)
  local succeeded, result = root:result()
  if exit_status then return exit_status end
  if signal then return 128 + signal end
  if succeeded and math.type(result) == "integer" and not status_of(result) then
    succeeded, result = false, status_error("the script returned", result)
  end
  if not succeeded then return fail(result, with_traceback) end
  return status_of(result) or 0
end

local function main()
  local index, with_traceback = 1, false
  while argv[index] == "--traceback" do
    index, with_traceback = index + 1, true
  end
  local word, status = argv[index], 0
  if word == "--version" then
    io.stdout:write("parley ", host.version, "\n")
  elseif word == "--help" or word == "-h" then
    io.stdout:write(help())
  elseif not word then
    io.stderr:write(help())
    return 1
  else
    status = run(index, with_traceback)
  end
  -- What a script has printed counts as well; an error that was told of already is enough.
  local code, problem = host.flush_output()
  return code and status == 0 and fail(stdout.error(code, problem), with_traceback) or status
end

return main()
