--- What live sessions take of a machine's memory: the programs, and the host beside them.
local backends = require "parley.backend"
local descendants = require "parley.base.descendants"
local files = require "parley.base.files"
local tables = require "parley.base.tables"
local uv = require "luv"

local M = {}

--- What a process takes alone, and with its part of what several share (`Pss`), in kB.
local function memory_of(pid)
  local text = files.read(("/proc/%d/smaps_rollup"):format(pid)) or ""
  return tonumber(text:match "\nRss:%s+(%d+)") or 0, tonumber(text:match "\nPss:%s+(%d+)") or 0
end

local function sum(roots)
  local rss, pss = 0, 0
  local all = tables.joined(roots)
  for _, one in ipairs(descendants.of(roots)) do table.insert(all, one.pid) end
  for _, pid in ipairs(all) do
    local more_rss, more_pss = memory_of(pid)
    rss, pss = rss + more_rss, pss + more_pss
  end
  return rss, pss
end

local function own()
  collectgarbage()
  collectgarbage()
  return uv.resident_set_memory() / 1024
end

--- Measures sessions that have had a turn each, so many at a time.
---@param name string
---@param options table
---@param counts integer[]  ascending
---@param say fun(what: string, figure: string)
function M.run(name, options, counts, say)
  local set = tables.merged(options, { max_sessions = counts[#counts], state = false })
  local backend <close> = backends.new(set)
  local before, live = own(), 0
  for _, count in ipairs(counts) do
    while live < count do
      live = live + 1
      backend:complete({ { role = "user", content = ("hello, number %d"):format(live) } }):result()
    end
    local pids = {}
    for _, process in pairs(backend:live_sessions()) do table.insert(pids, process:pid()) end
    assert(#pids == count)
    local rss, pss = sum(pids)
    say(("%s: memory a session, of %d at a time"):format(name, count),
      ("%8.1f MB alone (RSS), %.1f MB with its part of what they share (PSS)"):format(rss / count / 1024,
        pss / count / 1024))
  end
  say(name .. ":   of the host's a session", ("%8.2f MB"):format((own() - before) / live / 1024))
end

return M
