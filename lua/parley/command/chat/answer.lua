--- The text of answers on its way to a person: whole lines as they come, what is left once its block is complete. What
--- was shown as partial text is not shown again with its message.
local markdown = require "parley.command.chat.markdown"
local paint = require "parley.command.paint"

local M = {}

---@class parley.ChatAnswer
---@field package write fun(text: string)
---@field package paint? fun(style: string, text: string): string
---@field package message? string   of which partial text has come
---@field package pieces string[]   what of it no block has accounted for
---@field package shown integer     so many bytes of that were shown
---@field package blank string[]    lines that are shown only when another follows
---@field package markdown? parley.Markdown  of the block
local Answer = {}
Answer.__index = Answer
Answer.__name = "parley.ChatAnswer"

local function begin_block(self)
  self.blank, self.markdown = {}, self.paint and markdown.new(self.paint) or nil
end

--- Makes what shows answers.
---@param given {write: (fun(text: string)), paint?: (fun(style: string, text: string): string)}  without `paint`
---       Markdown stands as it was written
---@return parley.ChatAnswer
function M.new(given)
  local self = setmetatable({ write = given.write, paint = given.paint, pieces = {}, shown = 0 }, Answer)
  begin_block(self)
  return self
end

local function trimmed(text) return text:match "^.*%S" or "" end

--- Shows lines, the last of which may have no end yet.
local function show(self, text)
  local shown = {}
  for line in paint.plain(text):gsub("[^\n]$", "%0\n"):gmatch "([^\n]*)\n" do
    if line:find "%S" then
      table.move(self.blank, 1, #self.blank, #shown + 1, shown)
      table.insert(shown, self.markdown and self.markdown:line(line) or line)
      self.blank = {}
    else
      table.insert(self.blank, line)
    end
  end
  if shown[1] then self.write(table.concat(shown, "\n") .. "\n") end
end

--- What has come, as one text.
local function come(self)
  self.pieces = { table.concat(self.pieces) }
  return self.pieces[1]
end

--- Shows what has come of the line that is not whole, before something else is shown.
function Answer:flush()
  local text = come(self)
  show(self, trimmed(text:sub(self.shown + 1)))
  self.shown = #text
end

--- Takes in partial text.
---@param event parley.Event  of type `partial`
function Answer:add(event)
  if event.message ~= self.message then self:finish() end
  self.message = event.message
  table.insert(self.pieces, event.text)
  local _, last = event.text:find "^.*\n" -- the whole lines before it were shown
  if not last then return end
  local text = come(self)
  local whole = #text - #event.text + last
  show(self, text:sub(self.shown + 1, whole))
  self.shown = whole
end

--- Shows what of a block of text was not shown yet.
---@param text string
function Answer:block(text)
  local before = come(self)
  if before:sub(1, #text) == text then -- and perhaps another block of the message behind it
    show(self, trimmed(text:sub(self.shown + 1)))
    self.pieces, self.shown = { before:sub(#text + 1) }, math.max(self.shown - #text, 0)
  elseif text:sub(1, #before) == before then
    show(self, trimmed(text:sub(self.shown + 1)))
    self.pieces, self.shown = {}, 0
  else -- of a message that was not shown; the one that is may go on
    show(self, trimmed(text))
  end
  begin_block(self)
end

--- No more comes of what was shown in part.
function Answer:finish()
  self:flush()
  self.message, self.pieces, self.shown = nil, {}, 0
  begin_block(self)
end

return M
