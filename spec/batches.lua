--- What the specs of `parley batch` share: a run with the kit's `claude`, its input and its results.
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json

local M = {}

--- The environment of a command that finds the kit's `claude` and home.
function M.environment_of(kit)
  return helper.environment({ TERM = "xterm-256color" }, kit.environment)
end

function M.argv_of(kit, words)
  local argv = { helper.host, "batch", "--executable", kit.executable, "--cwd", kit.cwd }
  return table.move(words, 1, #words, #argv + 1, argv)
end

--- Starts `parley batch` with the kit's `claude`.
function M.start(kit, words, input)
  return helper.start(M.argv_of(kit, words), { env = M.environment_of(kit), cwd = kit.folder, input = input })
end

function M.run(kit, words, input)
  local program <close> = M.start(kit, words, input)
  return program:wait()
end

--- Writes an input of tables; a text goes in as it is.
function M.write_input(kit, items)
  local lines = {}
  for i, item in ipairs(items) do lines[i] = type(item) == "string" and item or assert(json.encode(item)) end
  helper.write(kit.folder .. "/in.jsonl", table.concat(lines, "\n") .. "\n")
end

function M.numbered(count, format)
  local items = {}
  for i = 1, count do items[i] = { id = ("c%d"):format(i), turns = { (format or "hello %d"):format(i) } } end
  return items
end

--- The whole lines of an output, decoded, and by id.
function M.read_results(kit, name)
  local ordered, by_id = helper.json_lines(files.read(kit.folder .. "/" .. (name or "out.jsonl"))), {}
  for _, result in ipairs(ordered) do
    by_id[result.id] = result
  end
  return ordered, by_id
end

function M.count_ids(kit)
  local times, count = {}, 0
  for _, result in ipairs((M.read_results(kit))) do
    if not times[result.id] then count = count + 1 end
    times[result.id] = (times[result.id] or 0) + 1
  end
  return count, times
end

function M.wait_for_the_dead(kit)
  helper.eventually(function() return #kit:processes() == 0 end, nil, "the end of every stand-in")
end

local BASIC = { "in.jsonl", "-o", "out.jsonl" }

function M.basic(...)
  return table.move({ ... }, 1, select("#", ...), #BASIC + 1, table.move(BASIC, 1, #BASIC, 1, {}))
end

return M
