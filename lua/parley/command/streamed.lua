--- Answers as they are printed: what came as partial text is not printed again with its message.
local M = {}

---@class parley.Streamed
---@field package write fun(text: string)
---@field package message? string  of which text was printed
---@field package printed string   what of it no answer has accounted for
---@field package is_open boolean  the last line is not ended
local Streamed = {}
Streamed.__index = Streamed
Streamed.__name = "parley.Streamed"

--- Makes a printer of answers.
---@param write fun(text: string)
---@return parley.Streamed
function M.new(write) return setmetatable({ write = write, printed = "", is_open = false }, Streamed) end

local function put(self, text)
  if text == "" then return end
  self.write(text)
  self.is_open = text:sub(-1) ~= "\n"
end

local function end_line(self)
  if self.is_open then put(self, "\n") end
end

--- Prints a piece.
---@param event parley.Event  of type `partial`
function Streamed:add(event)
  if event.message ~= self.message then
    end_line(self)
    self.message, self.printed = event.message, ""
  end
  self.printed = self.printed .. event.text
  put(self, event.text)
end

--- Ends the line that is not whole, before what is no part of the answer.
---@param event parley.Event
function Streamed:finish(event)
  if event.type ~= "assistant" and event.type ~= "partial" then end_line(self) end
end

--- Prints what of an answer's text was not printed yet, and a line end.
---@param text string
function Streamed:answer(text)
  local printed = self.printed
  if printed:sub(1, #text) == text then -- another block of the same message may have been printed behind it
    self.printed = printed:sub(#text + 1)
  elseif text:sub(1, #printed) == printed then
    put(self, text:sub(#printed + 1))
    self.printed = ""
  else
    end_line(self)
    put(self, text)
    self.printed = ""
  end
  if self.printed == "" then put(self, "\n") end
end

return M
