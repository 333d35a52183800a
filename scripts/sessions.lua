-- Lists the transcripts of a folder.
local uv = require "luv"
local cli = require "parley.command.cli"
local clock = require "parley.base.clock"
local index = require "parley.command.transcript_index"
local json = require("parley.core").json
local paint = require "parley.command.paint"
local paths = require "parley.claude.paths"

local function define(parser)
  parser:argument("folder", "The working directory of the sessions; default: this one."):args "?"
  parser:flag("-a --all", "The sessions of every folder.")
  cli.short_option(parser, "-n", "--limit", "N", "At most so many, the newest."):convert(cli.count_from(1))
  parser:flag("--json", "One JSON object a line.")
end

local UNITS = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } }

local function age_of(seconds)
  for _, unit in ipairs(UNITS) do
    if seconds >= unit[1] then return ("%d %s"):format(seconds // unit[1], unit[2]) end
  end
  return "now"
end

local function row_of(entry, arguments, now)
  local summary, problem = index.summary(entry.path)
  summary = summary or { turns = 0, first_words = "(cannot be read: " .. problem .. ")" }
  if arguments.json then
    return assert(json.encode({ id = entry.id, path = entry.path, size = entry.size, turns = summary.turns,
      modified = clock.date("!%Y-%m-%dT%H:%M:%SZ", entry.modified * 1000), cwd = summary.cwd or json.null,
      first_words = summary.first_words or json.null, }, { sort_keys = true }))
  end
  local place = arguments.all and summary.cwd and paint.plain(summary.cwd) .. ": " or ""
  return ("%-36s %7s %5d %9s  %s%s"):format(entry.id, age_of(now - entry.modified), summary.turns,
    paint.size(entry.size), place, paint.line(summary.first_words or "", 60))
end

local function main(arguments)
  local config = paths.config_folder(uv.os_environ())
  local entries = arguments.all and index.list_all(config) or index.list(paths.project_folder(arguments.folder))
  if not entries[1] then
    io.stderr:write("parley: no sessions ", arguments.all and "in " .. config or "of this folder (--all: of every one)",
      "\n")
  elseif not arguments.json then
    local heading = ("%-36s %7s %5s %9s  %s"):format("ID", "AGE", "TURNS", "SIZE", "FIRST WORDS")
    cli.write(paint.painter(1)("bold", heading), "\n")
  end
  local now = clock.wall() // 1000
  for i = 1, math.min(#entries, arguments.limit or #entries) do cli.write(row_of(entries[i], arguments, now), "\n") end
end

return cli.run({
  name = "sessions", summary = "Lists the transcripts of a folder, newest first.", define = define, main = main,
  examples = [[
  parley sessions
  parley sessions --all --limit 10
  parley sessions --json ~/src/thing | jq -r .id]],
}, ...)
