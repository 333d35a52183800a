--- Which version an executable is, known before it is started for a conversation; and what came with which.
local kernel = require "parley.claude.kernel"
local program = require "parley.base.program"
local uv = require "luv"

local M = {}

--- The few that are asked about at every look.
local known_numbers = {}

local function numbers_of(version)
  local numbers = known_numbers[version]
  if numbers then return numbers end
  local major, minor, patch = version:match "^(%d+)%.(%d+)%.(%d+)"
  numbers = { tonumber(major), tonumber(minor), tonumber(patch) }
  known_numbers[version] = numbers
  return numbers
end

--- Whether a version is another or came after it.
---@param version string  `"2.1.332"`
---@param other string
---@return boolean
function M.is_at_least(version, other)
  local left, right = numbers_of(version), numbers_of(other)
  for i = 1, 3 do
    if left[i] ~= right[i] then return (left[i] or 0) > right[i] end
  end
  return true
end

--- Whether a version's status file says what the program does. Those of 2.1.113 to 2.1.118 name the version alone.
---@param version? string
---@return boolean
function M.has_status(version) return version ~= nil and M.is_at_least(version, "2.1.119") end

--- Whether a version writes, at a turn's end, a record that says so. 2.1.119 has a status and no such record.
---@param version? string
---@return boolean
function M.has_duration(version) return version ~= nil and M.is_at_least(version, "2.1.120") end

--- Whether a version's status file says that a dialog is up. That of 2.1.141 says `busy` there; 2.1.140 and 2.1.149 do
--- tell, and those between were not tried.
---@param version? string
---@return boolean
function M.tells_dialogs(version)
  return M.has_status(version) and not (M.is_at_least(version, "2.1.141") and not M.is_at_least(version, "2.1.149"))
end

local known = {} -- by what tells one file from another

local function identity_of(path)
  local stat = uv.fs_stat(path)
  return stat and ("%s %d %d %d.%d"):format(uv.fs_realpath(path), stat.ino, stat.size, stat.mtime.sec, stat.mtime.nsec)
end

--- Asks the program once (`--version`); the answer is kept while the file stays what it is. It waits.
---@param executable string
---@param environment table<string, string>
---@return string? version  `"2.1.332"`; nil when it says none
function M.of(executable, environment)
  local path = program.find(executable, environment)
  local identity = path and identity_of(path)
  if not identity then return nil end
  if not known[identity] then
    local text = kernel.ask_version(path, environment)
    known[identity] = text and text:match "%d+%.%d+%.%d+" or nil
  end
  return known[identity]
end

return M
