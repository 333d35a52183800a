--- The report of a batch: one HTML page that needs nothing besides itself, and obeys nothing that stands in a result.
---
--- Every text of a result is escaped, control characters are replaced, and the page's own policy lets nothing load.
local uv = require "luv"
local errors = require "parley.base.errors"
local figures = require "parley.command.batch.figures"
local files = require "parley.base.files"
local json = require("parley.core").json
local lines = require "parley.command.batch.lines"
local output = require "parley.command.batch.output"
local paint = require "parley.command.paint"
local plots = require "parley.command.batch.plots"

local M = {}

--- Failures that are shown whole; of what is beyond them the codes are counted.
local MOST_FAILURES = 200
local SLOWEST, SLOWEST_COLUMNS = 10, { "time", "turns", "attempts", "tokens out", "cost" }

local STYLE = [[
:root { color-scheme: light dark; --ink: #1c1c1a; --dim: #6a6963; --paper: #fff; --line: #dddcd6; --good: #2a78d6;
  --bad: #c8372d; --screen: #f4f3ef; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e7e3; --dim: #a09f99; --paper: #191918; --line: #3a3a37;
  --good: #4d94e8; --bad: #e8645a; --screen: #232321; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p { margin: .2rem 0 } .dim, figcaption, th { color: var(--dim); font-weight: normal }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem 2rem; margin: 1rem 0 }
.plots { display: grid; gap: 1.5rem 1rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)) }
.tiles b { display: block; font-size: 1.5rem; font-weight: 600 }
figure { margin: 0 } .scale { display: flex; justify-content: space-between; font-size: .75rem }
figcaption { font-size: .85rem } figcaption b { color: var(--ink); font-weight: 600 }
svg { display: block; width: 100%; height: 5.5rem } .strip svg { height: 1.4rem } td svg { height: .6rem; width: 12rem }
.bar, .good { fill: var(--good) } .bad { fill: var(--bad) } .axis, .rest { fill: var(--line) }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid var(--line); white-space: nowrap } .number { text-align: right }
th:last-child, td:last-child { padding-right: 0 } td:first-child { white-space: normal; overflow-wrap: anywhere }
@media (max-width: 42rem) { .slowest tr { display: block; padding: .3rem 0; border-bottom: 1px solid var(--line) }
  .slowest tr:first-child { display: none } .slowest td { display: inline-block; padding: 0 .8rem 0 0; border: 0 }
  .slowest td:first-child { display: block }
  .slowest td[title]::before { content: attr(title) " "; color: var(--dim) } }
details { border-bottom: 1px solid var(--line); padding: .4rem 0 } summary { cursor: pointer; overflow-wrap: anywhere }
summary b { color: var(--bad) }
pre { background: var(--screen); padding: .6rem; margin: .2rem 0 .6rem; overflow-x: auto;
  font: 12px/1.2 ui-monospace, monospace }
pre.text { white-space: pre-wrap; overflow-wrap: anywhere } pre, bdi { unicode-bidi: isolate }]]

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

--- A text of a result as HTML.
---@param text string
---@return string
function M.escape(text)
  text = paint.plain(tostring(text))
  if not utf8.len(text) then text = text:gsub("[\x80-\xFF]", "\u{FFFD}") end
  return (text:gsub("[&<>\"']", ENTITIES))
end

local escape = M.escape

local function time_text(ms)
  local seconds = ms / 1000
  if seconds < 60 then return ("%.1f s"):format(seconds) end
  local whole = math.floor(seconds + 0.5)
  if whole < 3600 then return ("%d min %d s"):format(whole // 60, whole % 60) end
  return ("%d h %d min"):format(whole // 3600, whole % 3600 // 60)
end

local function count_text(number)
  local digits = ("%.0f"):format(number):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (digits:gsub("^,", ""))
end

local function cost_text(usd) return (usd < 1 and "$%.4f" or "$%.2f"):format(usd) end

local function many(number, noun) return ("%s %s%s"):format(count_text(number), noun, number == 1 and "" or "s") end

local function tile(value, name) return ("<div><b>%s</b><span class=dim>%s</span></div>"):format(value, name) end

local function figure(sorted, name, text_of)
  if not sorted[1] then return "" end
  local function at(share) return text_of(plots.quantile(sorted, share)) end
  local caption = ("half within %s, nine of ten within %s, at most %s"):format(at(0.5), at(0.9), at(1))
  return ("<figure>%s<div class='scale dim'><span>0</span><span>%s</span></div><figcaption><b>%s</b> %s</figcaption>"
    .. "</figure>"):format(plots.histogram(sorted, name), at(1), name, caption)
end

--- When it began, as people write it.
local function moment_text(timestamp)
  return (escape(timestamp):gsub("^(%d+%-%d+%-%d+)T(%d+:%d+:%d+)[%d.]*Z$", "%1 %2 UTC"))
end

local function name_of(entry)
  if entry.id == nil then return ("line %d, no conversation"):format(entry.line) end
  return ("<bdi>%s</bdi>"):format(escape(entry.id))
end

local function tiles(found)
  local failed = #found.failed
  local parts = { tile(count_text(#found.entries), "conversations"),
    tile(count_text(#found.entries - failed), "succeeded"), tile(count_text(failed), "failed"),
    tile(count_text(found.sent), "tokens in"), tile(count_text(found.received), "tokens out") }
  if found.cost_usd then table.insert(parts, tile(cost_text(found.cost_usd), "cost")) end
  return "<div class=tiles>" .. table.concat(parts) .. "</div>"
end

local function course(found)
  local has_failed = {}
  for i, entry in ipairs(found.entries) do has_failed[i] = entry.error ~= nil end
  if #has_failed == 0 then return "<p>There is no result.</p>" end
  return ("<figure class=strip>%s<figcaption><b>verdicts</b> in the order in which they were finished; what failed is "
    .. "red</figcaption></figure>"):format(plots.strip(has_failed, "verdicts"))
end

local function numbers(found)
  return table.concat { "<div class=plots>",
    figure(found:each "duration_ms", "time of a conversation", time_text),
    figure(found:turns(), "time of a turn", time_text),
    figure(found:each "sent", "tokens in", count_text), figure(found:each "received", "tokens out", count_text),
    figure(found:each "cost_usd", "cost", cost_text), "</div>" }
end

local function codes(found)
  local rows = {}
  for i, each in ipairs(found.codes) do
    rows[i] = ("<tr><td>%s<td class=number>%s<td>%s"):format(escape(each.code), count_text(each.count),
      plots.share(each.count / #found.failed, escape(each.code)))
  end
  return "<table>" .. table.concat(rows) .. "</table>"
end

local function failure(entry)
  local err = entry.error
  local parts = { ("<details><summary>%s: <b>%s</b> %s</summary>"):format(name_of(entry), escape(err.code),
    escape(paint.line(err.message or "", 160))) }
  local facts = { ("line %d"):format(entry.line), many(entry.attempts, "attempt") }
  if err.turn then table.insert(facts, "turn " .. escape(err.turn)) end
  if err.reason then table.insert(facts, "reason " .. escape(err.reason)) end
  if entry.duration_ms then table.insert(facts, time_text(entry.duration_ms)) end
  table.insert(parts, ("<p class=dim>%s</p>"):format(table.concat(facts, " · ")))
  local function text(name, value, class)
    if value then table.insert(parts, ("<p class=dim>%s</p><pre%s>%s</pre>"):format(name, class, escape(value))) end
  end
  text("the error", err.message, " class=text")
  text("the last message", entry.last_said, " class=text")
  text("the last screen", err.screen, "")
  return table.concat(parts) .. "</details>\n"
end

local function failures(found)
  if not found.failed[1] then return "" end
  local parts = { "<h2>Failures</h2>", codes(found) }
  for i = 1, math.min(#found.failed, MOST_FAILURES) do table.insert(parts, failure(found.failed[i])) end
  if #found.failed > MOST_FAILURES then
    table.insert(parts, ("<p class=dim>and %s more</p>"):format(count_text(#found.failed - MOST_FAILURES)))
  end
  return table.concat(parts)
end

local function slowest(found)
  local timed = {}
  for _, entry in ipairs(found.entries) do table.insert(timed, entry.duration_ms and entry or nil) end
  if not timed[1] then return "" end
  table.sort(timed, function(one, other)
    return one.duration_ms > other.duration_ms or one.duration_ms == other.duration_ms and one.order < other.order
  end)
  local rows = { "<h2>The slowest</h2><table class=slowest><tr><th>conversation<th>verdict" }
  for _, name in ipairs(SLOWEST_COLUMNS) do rows[1] = ("%s<th class=number>%s"):format(rows[1], name) end
  for i = 1, math.min(#timed, SLOWEST) do
    local entry = timed[i]
    local cells = { time_text(entry.duration_ms), #entry.turn_ms, count_text(entry.attempts),
      count_text(entry.received), entry.cost_usd and cost_text(entry.cost_usd) or "–" }
    local row = { ("<tr><td>%s<td>%s"):format(name_of(entry), entry.error and "failed" or "success") }
    -- Where there is no room for columns the cells stand below each other, and each says what it is.
    for j, name in ipairs(SLOWEST_COLUMNS) do
      table.insert(row, ("<td class=number title='%s'>%s"):format(name, cells[j]))
    end
    table.insert(rows, table.concat(row))
  end
  return table.concat(rows, "\n") .. "</table>"
end

--- Makes the page.
---@param found parley.batch.Figures
---@param title string
---@return string html
function M.render(found, title)
  return table.concat { '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n',
    [[<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">]],
    '\n<meta name="viewport" content="width=device-width">\n<title>', escape(title), "</title>\n<style>\n", STYLE,
    "\n</style></head><body>\n<h1>", escape(title), "</h1>\n",
    found.began and ('<p class=dim>begun %s</p>\n'):format(moment_text(found.began)) or "", tiles(found), course(found),
    numbers(found), failures(found), slowest(found), "\n</body></html>\n" }
end

local function is_same_file(one, other)
  local left, right = uv.fs_stat(one), uv.fs_stat(other)
  return left ~= nil and right ~= nil and left.ino == right.ino and left.dev == right.dev
end

--- Sees to it that a page can go to a file, before any work is done for it.
---@param path? string      nil and `-` are standard output
---@param others string[]  files that it must not take the place of
--- Raises `ValueError`, or what `files.save` would raise.
function M.check_target(path, others)
  if not path or path == "-" then return end
  local folder = path:match "^(.*)/[^/]*$" or "."
  if not files.is_folder(folder ~= "" and folder or "/") then
    error(errors.value_error(("the report cannot go to '%s': there is no folder '%s'"):format(path, folder)), 0)
  end
  if files.is_folder(path) then
    error(errors.value_error(("the report cannot go to '%s': it is a folder"):format(path)), 0)
  end
  for _, other in ipairs(others) do
    if is_same_file(path, other) then
      error(errors.value_error(("the report cannot go to '%s', which holds the batch itself"):format(path)), 0)
    end
  end
  files.check_save(path)
end

--- The results in a file. A last line that is half written is passed over: the batch may be running.
local function results_in(reader)
  return function()
    local line, has_break
    repeat line, has_break = reader:next() until not line or line:find "%S"
    if not line then return nil end
    local result = json.decode(line)
    if output.is_result(result) then return result end
    if not has_break and output.begins_result(line) then return nil end
    error(errors.value_error(("'%s' is no output of a batch: its line %d is no result"):format(reader.name,
      reader.number)), 0)
  end
end

--- Makes the page of an output of a batch.
---@param path string  `-` for standard input
---@return string html
--- Raises `ValueError` when it cannot be read, or is none.
function M.of_file(path)
  local reader <close> = lines.open(path)
  reader.name = path == "-" and "standard input" or path
  return M.render(figures.of(results_in(reader)), path == "-" and "A batch" or path:match "([^/]+)/*$")
end

return M
