--- Whether a transcript still ends where it was left. The program writes notes of its own when it ends, which say
--- nothing; what was said meanwhile, by whomever, is another conversation than the one that was stored.
local core = require "parley.core"
local index = require "parley.sleep.index"
local transcript = require "parley.claude.transcript"

local M = {}

local WORDS = {
  gone = "its transcript is gone",
  shorter = "its transcript has been cut short",
  rewritten = "its transcript has been changed",
  grown = "somebody has gone on with it, or its host was killed in the middle of a turn",
  torn = "its transcript ends in the middle of a line",
}

--- What a problem is in words.
---@param problem string  of `problem_of`
---@return string
function M.words(problem) return WORDS[problem] or problem end

--- What stands behind a place in a file.
local function rest_of(path, offset)
  local file = io.open(path, "rb")
  if not file then return nil end
  local _ <close> = file
  return file:seek("set", offset) and file:read "a"
end

--- Records beside the messages that say something, or change what was said.
local SAYING = { compact_boundary = true, local_command = true }

--- Whether anything was said in lines of a transcript.
local function says_something(lines)
  for line in lines:gmatch "[^\n]+" do
    local record = core.json.decode(line)
    local is_note = type(record) == "table" and not transcript.is_said(record)
    if not is_note or SAYING[record.subtype] then return true end
  end
  return false
end

--- Whether all lines of a transcript behind a place can be read: what its program has written at its end may stand
--- behind half a line, and be none.
---@param path string
---@param offset integer  where a line begins
---@return boolean
function M.is_readable(path, offset)
  local rest = rest_of(path, offset)
  if not rest or rest ~= "" and rest:sub(-1) ~= "\n" then return false end
  for line in rest:gmatch "[^\n]+" do
    if type(core.json.decode(line)) ~= "table" then return false end
  end
  return true
end

--- What has become of a transcript since it was stored.
---@param entry {path: string, size: integer, digest: string}
---@return nil|"gone"|"shorter"|"grown"|"rewritten"|"torn" problem  nil: the conversation in it is the one that it was
function M.problem_of(entry)
  local problem = index.changed(entry)
  if problem ~= "grown" then return problem end
  local rest = rest_of(entry.path, entry.size)
  if not rest then return "gone" end
  if rest:sub(-1) ~= "\n" then return "torn" end
  return says_something(rest) and "grown" or nil
end

--- The beginning of a transcript, up to where it was when it was stored: what has come behind it does not matter.
---@param point {path: string, size: integer, digest: string}
---@return string? text  nil when it is not there any more
function M.beginning(point)
  local problem = index.changed(point)
  if problem and problem ~= "grown" then return nil end
  local file = io.open(point.path, "rb")
  if not file then return nil end
  local _ <close> = file
  local text = file:read(point.size)
  return text and #text == point.size and text:sub(-1) == "\n" and text or nil
end

return M
