--- A session's conversation beside its terminal: what its transcript says, as short pieces.
local claude_event = require "parley.claude.event"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local tables = require "parley.base.tables"
local transcript = require "parley.claude.transcript"
local uv = require "luv"

local M = {}

--- So many pieces are shown, each cut to so many bytes.
local MOST_PIECES, MOST_BYTES = 300, 8000
--- A long transcript is not read again before so many times as long have gone by as it took.
local REST = 20

--- The field of a tool's input that says most, by what the program's tools call it.
local ESSENTIAL = { "command", "file_path", "notebook_path", "pattern", "query", "url", "description", "prompt", "path",
  "skill" }

--- A text, or its beginning.
---@param text string
---@param bytes integer  so many at most, but for the mark that it goes on
---@return string
function M.cut(text, bytes)
  return #text <= bytes and text or errors.beginning(text, bytes) .. " …"
end

--- A tool call in a line.
---@param call table  a `tool_use` block
---@return string
function M.describe(call)
  local input = type(call.input) == "table" and call.input or {}
  for _, name in ipairs(ESSENTIAL) do
    if type(input[name]) == "string" then return ("%s: %s"):format(call.name, input[name]:match "^[^\n]*") end
  end
  return tostring(call.name)
end

local function text_of_result(block)
  if type(block.content) == "string" then return block.content end
  local parts = {}
  for _, each in ipairs(type(block.content) == "table" and block.content or {}) do
    local part = type(each) == "table" and each or { type = type(each) } -- a hook of anybody's may have made it
    table.insert(parts, type(part.text) == "string" and part.text or ("[%s]"):format(tostring(part.type)))
  end
  return table.concat(parts, "\n")
end

local function add(pieces, who, text)
  if text:find "%S" then table.insert(pieces, { who = who, text = M.cut(text, MOST_BYTES) }) end
end

local takes = {}

function takes.assistant(pieces, event)
  for _, block in ipairs(event.content) do
    if block.type == "text" then
      add(pieces, event.is_error and "error" or "claude", tostring(block.text))
    elseif block.type == "tool_use" then
      add(pieces, "call", M.describe(block))
    end
  end
end

function takes.user(pieces, event)
  local kind = claude_event.kind(event)
  if kind == "results" then
    for _, block in ipairs(event:blocks "tool_result") do
      add(pieces, block.is_error == true and "error" or "result", text_of_result(block))
    end
  elseif kind == "typed" then
    add(pieces, "you", event:text())
  elseif kind == "command" then
    add(pieces, "you", transcript.command_text(event))
  end
end

--- Makes pieces of a transcript's events: `who` is `you`, `claude`, `call`, `result` or `error`.
---@param events parley.Event[]
---@return {who: string, text: string}[]
function M.pieces(events)
  local pieces = {}
  for _, event in ipairs(events) do
    if takes[event.type] then takes[event.type](pieces, event) end
  end
  return table.move(pieces, math.max(1, #pieces - MOST_PIECES + 1), #pieces, 1, {})
end

---@class parley.gateway.Conversation
---@field package path? string
---@field package stamp? string
---@field package next_at number
---@field package pieces table[]
local Conversation = {}
Conversation.__index = Conversation

--- The conversation of a session, read anew when its transcript has changed.
---@return parley.gateway.Conversation
function M.new() return setmetatable({ next_at = 0, pieces = {} }, Conversation) end

--- What was said, as far as it is known.
---@param path string
---@return {who: string, text: string}[]
function Conversation:read(path)
  local stat = uv.fs_stat(path)
  local stamp = stat and ("%s %d %d.%d"):format(path, stat.size, stat.mtime.sec, stat.mtime.nsec)
  local began = clock.now()
  if stamp == self.stamp or path == self.path and began < self.next_at then return self.pieces end
  local ok, events = pcall(transcript.read, path)
  self.pieces, self.stamp, self.path = ok and M.pieces(events) or {}, stamp, path
  self.next_at = clock.now() + (clock.now() - began) * REST
  return self.pieces
end

--- What has changed since a reader was last told.
---@param pieces {who: string, text: string}[]
---@param told {who: string, text: string}[]
---@return {from: integer, pieces: table[]}?  the first `from` pieces are as they were
function M.changes(pieces, told)
  local same = 0
  while pieces[same + 1] and told[same + 1] and pieces[same + 1].text == told[same + 1].text
    and pieces[same + 1].who == told[same + 1].who do
    same = same + 1
  end
  if same == #pieces and same == #told then return nil end
  return { from = same, pieces = tables.joined(table.move(pieces, same + 1, #pieces, 1, {})) }
end

return M
