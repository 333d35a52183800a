--- Markdown for a terminal, lightly: what is bold, code or a list looks like it, all else stands as it was written.
--- A line at a time, so that an answer can be shown as it comes.
local M = {}

---@class parley.Markdown
---@field package paint fun(style: string, text: string): string
---@field package fence? string  what ends the block of code that the next line stands in
local Markdown = {}
Markdown.__index = Markdown

--- Makes one for an answer.
---@param paint fun(style: string, text: string): string  of `parley.command.paint`
---@return parley.Markdown
function M.new(paint) return setmetatable({ paint = paint }, Markdown) end

--- Prose with its bold parts and its code, which is shown as it is. `**` beside a space opens nothing and ends nothing.
local function inline(paint, text, style)
  local parts, from, at, is_bold, open = {}, 1, 1, false, {}
  local last_end = text:match "^.*()%S%*%*" or 0
  local function take(last)
    local part, own = text:sub(from, last), is_bold and "bold" or style
    table.insert(parts, own and paint(own, part) or part)
  end
  while true do
    local place = text:find("[`*]", at)
    if not place then break end
    local mark = text:match("^`+", place) or text:match("^%*+", place)
    at = place + #mark
    if mark == "**" then
      local ends = is_bold and text:find("^%S", place - 1)
      local begins = not is_bold and text:find("^%S", at) and at <= last_end
      if ends or begins then
        take(place - 1)
        from, is_bold = at, not is_bold
      end
    elseif mark:find "`" and not open[mark] then
      local code, next = text:match("^(.-)%f[`]" .. mark .. "%f[^`]()", at)
      if code then
        take(place - 1)
        table.insert(parts, paint("cyan", #mark > 1 and code:match "^ ?(.-) ?$" or code))
        from, at = next, next
      else
        open[mark] = true
      end
    end
  end
  take(#text)
  return table.concat(parts)
end

--- Shows the next line of the answer.
---@param text string  without its line feed, and without what a terminal would obey
---@return string
function Markdown:line(text)
  local paint = self.paint
  local fence = text:match "^ *(```+)[^`]*$" or text:match "^ *(~~~+)"
  if self.fence then
    if fence and fence:sub(1, #self.fence) == self.fence and text:find "^ *[`~]+ *$" then
      self.fence = nil
      return paint("dim", text)
    end
    return paint("cyan", text)
  end
  if fence then
    self.fence = fence
    return paint("dim", text)
  end
  local marks, heading = text:match "^(#+)%s+(.*)$"
  if heading and #marks <= 6 then return inline(paint, heading:match "^.*[^%s#]" or "", "bold") end
  local indent, item = text:match "^( *)[-*+] +(.+)$"
  if item and not text:find "^[-*+ ]+$" then return indent .. "• " .. inline(paint, item) end
  return inline(paint, text)
end

return M
