-- Lists the transcripts of a folder, and what is kept of sessions that can be woken.
local uv = require "luv"
local cli = require "parley.command.cli"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local index = require "parley.command.transcript_index"
local json = require("parley.core").json
local kept = require "parley.command.kept_sessions"
local paint = require "parley.command.paint"
local paths = require "parley.claude.paths"
local tables = require "parley.base.tables"

local function define(parser)
  parser:argument("folder", "The working directory of the sessions; default: this one. Or 'forget' and an ID, or "
    .. "'prune'."):args "?"
  cli.offer(parser:argument("id", "A session's, for 'forget'."):args "?", "sessions")
  parser:flag("-a --all", "The sessions of every folder.")
  parser:flag("-k --kept", "Those that can be woken, of every folder: live, asleep and since when, model.")
  cli.short_option(parser, "-n", "--limit", "N", "At most so many, the newest."):convert(cli.count_from(1))
  parser:flag("--json", "One JSON object a line.")
  parser:option("--days", "For 'prune': keep what was used in so many days."):argname("N"):convert(cli.count_from(1))
  parser:option("--count", "For 'prune': keep so many, the last used."):argname("N"):convert(cli.count_from(1))
  parser:option("--bytes", "For 'prune': keep so many bytes of transcripts."):argname("N"):convert(cli.count_from(1))
end

--- What the index holds of some sessions, by id. That it cannot be read is no reason not to list.
local function kept_of(entries)
  local found, store, err = {}, nil, nil
  local ok, problem = pcall(function()
    store = kept.open()
    for _, entry in ipairs(entries) do
      found[entry.id], err = store:get(entry.id)
      if err then error(err, 0) end
    end
  end)
  if store then store:close() end
  if not ok then io.stderr:write("parley: ", errors.text(problem), "\n") end
  return found
end

local function row_of(entry, known, arguments, now)
  local summary, problem = index.summary(entry.path)
  summary = summary or {} -- of one that cannot be read
  if arguments.json then
    return assert(json.encode(tables.merged({ id = entry.id, path = entry.path, size = entry.size,
      turns = summary.turns or json.null, modified = clock.date("!%Y-%m-%dT%H:%M:%SZ", entry.modified * 1000),
      cwd = summary.cwd or json.null, first_words = summary.first_words or json.null, problem = problem,
    }, known and kept.state_fields(known)), { sort_keys = true }))
  end
  local place = arguments.all and summary.cwd and paint.plain(summary.cwd) .. ": " or ""
  local state = arguments.has_states and ("%-14s  "):format(known and kept.state(known, now) or "-") or ""
  local words = problem and ("(cannot be read: %s)"):format(problem) or summary.first_words or ""
  return ("%-36s %7s %5s %9s  %s%s%s"):format(entry.id, kept.age(now - entry.modified), summary.turns or "-",
    paint.size(entry.size), state, place, paint.line(words, 60))
end

local function list(arguments)
  local config = paths.config_folder(uv.os_environ())
  local entries = arguments.all and index.list_all(config) or index.list(paths.project_folder(arguments.folder))
  entries = table.move(entries, 1, math.min(#entries, arguments.limit or #entries), 1, {})
  local known = kept_of(entries)
  arguments.has_states = next(known) ~= nil
  if not entries[1] then
    io.stderr:write("parley: no sessions ", arguments.all and "in " .. config or "of this folder (--all: of every one)",
      "\n")
  elseif not arguments.json then
    local heading = ("%-36s %7s %5s %9s  %sFIRST WORDS"):format("ID", "AGE", "TURNS", "SIZE",
      arguments.has_states and ("%-14s  "):format "STATE" or "")
    cli.write(paint.painter(1)("bold", heading), "\n")
  end
  local now = clock.wall() // 1000
  for _, entry in ipairs(entries) do cli.write(row_of(entry, known[entry.id], arguments, now), "\n") end
end

local function main(arguments)
  local word = arguments.folder
  if word == "forget" and arguments.id then return kept.forget(arguments.id) end
  if arguments.id then
    error(errors.value_error(("an ID, '%s', stands behind 'forget' alone (see parley sessions --help)"):format(
      arguments.id)), 0)
  elseif word == "forget" then
    error(errors.value_error "say which session: parley sessions forget ID (the folder of that name is ./forget)", 0)
  elseif word == "prune" then
    return kept.prune { days = arguments.days, count = arguments.count, bytes = arguments.bytes }
  elseif arguments.days or arguments.count or arguments.bytes then
    error(errors.value_error "--days, --count and --bytes are for parley sessions prune", 0)
  elseif arguments.kept then
    return kept.list(arguments)
  end
  return list(arguments)
end

return cli.run({
  name = "sessions", summary = "Lists the transcripts of a folder, newest first, and the sessions that can be woken.",
  define = define, main = main, examples = [[
  parley sessions
  parley sessions --all --limit 10
  parley sessions --json ~/src/thing | jq -r .id
  parley sessions --kept                   # live, asleep and since when
  parley sessions forget 3f2a              # which is not found again; its transcript stays
  parley sessions prune --days 30]],
}, ...)
