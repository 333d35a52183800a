-- What became of the versions: as a line each in the file of a run, as a matrix, and in the table that stays.
local checks = require "spec.conformance.checks"

local M = {}

--- The columns: the checks, and whether a process or a file stayed behind.
M.COLUMNS = table.move(checks.ORDER, 1, #checks.ORDER, 1, {})
table.insert(M.COLUMNS, "leftovers")

---@class conformance.Result
---@field version string
---@field date string     `2026-11-29`
---@field seconds number  from start to end, without the download
---@field outcomes table<string, {outcome: "ok"|"-"|"wrong", reason?: string}>  by column; what is missing was not run

local SIGNS = { ok = ".", ["-"] = "-", wrong = "X" }

--- The columns with an outcome.
---@param result conformance.Result
---@param outcome string
---@return string[]
function M.columns_with(result, outcome)
  local names = {}
  for _, name in ipairs(M.COLUMNS) do
    local found = result.outcomes[name]
    if found and found.outcome == outcome then table.insert(names, name) end
  end
  return names
end

--- A result in a line of a run's file, and back.
---@param result conformance.Result
---@return string
function M.encode(result)
  local fields = { result.version, result.date, ("%d"):format(result.seconds) }
  for _, name in ipairs(M.COLUMNS) do
    local found = result.outcomes[name]
    if found then table.insert(fields, ("%s=%s %s"):format(name, found.outcome, found.reason or "")) end
  end
  return table.concat(fields, "\t") .. "\n"
end

---@param line string
---@return conformance.Result?  nil for a line that was cut off
function M.decode(line)
  local version, date, seconds, rest = line:match "^(%S+)\t(%S+)\t(%d+)(.*)\n$"
  if not version then return end
  local result = { version = version, date = date, seconds = tonumber(seconds), outcomes = {} }
  for name, outcome, reason in rest:gmatch "\t([^\t=]+)=(%S+) ([^\t]*)" do
    result.outcomes[name] = { outcome = outcome, reason = reason ~= "" and reason or nil }
  end
  return result
end

--- A result for people, in a line; what is wrong with its reasons.
---@param result conformance.Result
---@return string
function M.summary(result)
  local wrong, short = {}, M.columns_with(result, "-")
  for _, name in ipairs(M.columns_with(result, "wrong")) do
    table.insert(wrong, ("%s: %s"):format(name, result.outcomes[name].reason))
  end
  return ("%-9s %3d s  %s%s%s"):format(result.version, result.seconds, wrong[1] and "WRONG " or "ok",
    table.concat(wrong, "; "), short[1] and ", but for " .. table.concat(short, ", ") or "")
end

--- The reasons of a matrix: each once, with the versions that have it.
local function reasons_of(results, outcome)
  local lines, versions = {}, {}
  for _, name in ipairs(M.COLUMNS) do
    for _, result in ipairs(results) do
      local found = result.outcomes[name]
      if found and found.outcome == outcome then
        local line = ("%s %s: %s"):format(SIGNS[outcome], name, found.reason)
        if not versions[line] then
          versions[line] = {}
          table.insert(lines, line)
        end
        table.insert(versions[line], result.version)
      end
    end
  end
  for i, line in ipairs(lines) do
    local of_line = versions[line]
    local all = #of_line == 1 and of_line[1]
      or ("%s … %s, %d versions"):format(of_line[1], of_line[#of_line], #of_line)
    lines[i] = ("%s (%s)"):format(line, all)
  end
  return lines
end

--- The matrix: a row for each version, a letter for each column, the reasons below.
---@param results conformance.Result[]
---@return string
function M.matrix(results)
  local lines, letters = {}, {}
  for i, name in ipairs(M.COLUMNS) do
    letters[i] = string.char(96 + i)
    table.insert(lines, ("%s %s"):format(letters[i], name))
  end
  lines = { table.concat(lines, " · "), "", ("%-10s%s"):format("", table.concat(letters, " ")) }
  for _, result in ipairs(results) do
    local row = {}
    for i, name in ipairs(M.COLUMNS) do
      local found = result.outcomes[name]
      row[i] = found and SIGNS[found.outcome] or " "
    end
    table.insert(lines, ("%-10s%s  %3d s"):format(result.version, table.concat(row, " "), result.seconds))
  end
  table.insert(lines, "")
  for _, outcome in ipairs { "wrong", "-" } do
    local reasons = reasons_of(results, outcome)
    table.move(reasons, 1, #reasons, #lines + 1, lines)
  end
  return table.concat(lines, "\n") .. "\n"
end

--- The numbers of a version, to sort by.
---@param version string
---@return integer
function M.rank(version)
  local major, minor, patch = version:match "^(%d+)%.(%d+)%.(%d+)$"
  return (tonumber(major) * 1000 + tonumber(minor)) * 100000 + tonumber(patch)
end

local HEAD = [[
--- What `make conformance`, which writes this file, has found on published versions of `claude`: when it was run, the
--- checks that the version falls short of, and those that broke a promise. spec/conformance/README.md says more.
---@type table<string, {date: string, short?: string, wrong?: string}>
return {
]]

local function entry_of(version, known)
  local line = ('  ["%s"] = { date = "%s"'):format(version, known.date)
  for _, field in ipairs { "short", "wrong" } do
    local value = known[field] and (', %s = "%s"'):format(field, known[field]) or ""
    local width = #line:match "[^\n]*$" + #value
    line = line .. (width > 116 and ",\n   " .. value:sub(2) or value)
  end
  return line .. " },\n"
end

--- The text of the table that stays, with the results in it.
---@param known table<string, {date: string, short?: string, wrong?: string}>  the one that was
---@param results conformance.Result[]
---@return string
function M.table_with(known, results)
  local all, versions, lines = {}, {}, { HEAD }
  for version, entry in pairs(known) do all[version] = entry end
  for _, result in ipairs(results) do
    local entry = { date = result.date }
    for field, outcome in pairs { short = "-", wrong = "wrong" } do
      local names = M.columns_with(result, outcome)
      if names[1] then entry[field] = table.concat(names, ", ") end
    end
    all[result.version] = entry
  end
  for version in pairs(all) do table.insert(versions, version) end
  table.sort(versions, function(one, other) return M.rank(one) < M.rank(other) end)
  for _, version in ipairs(versions) do table.insert(lines, entry_of(version, all[version])) end
  return table.concat(lines) .. "}\n"
end

return M
