--- Text for a terminal: colours where they are wanted, and nothing in it that the terminal would obey.
local uv = require "luv"

local M = {}

local CODES = { bold = "1", dim = "2", red = "31", green = "32", yellow = "33", blue = "34", cyan = "36" }

--- Makes a painter for a descriptor. It colours on a terminal, unless `NO_COLOR` is set (no-color.org).
---@param descriptor integer  1 or 2
---@param environment? table<string, string>
---@return fun(style: string, text: string): string paint
function M.painter(descriptor, environment)
  environment = environment or uv.os_environ()
  local refused = (environment.NO_COLOR or "") ~= "" or environment.TERM == "dumb"
  local colours = uv.guess_handle(descriptor) == "tty" and not refused
  return function(style, text)
    if not colours or text == "" then return text end
    return ("\27[%sm%s\27[0m"):format(CODES[style] or error("no style " .. style), text)
  end
end

--- Replaces control characters, which a terminal would obey, by U+FFFD, and those that would have it show text in
--- another order than its letters have. Line feeds stay, a tab becomes four spaces.
---@param text string  UTF-8
---@return string
function M.plain(text)
  text = text:gsub("\r\n?", "\n"):gsub("\t", "    "):gsub("[\0-\9\11-\31\127]", "\u{FFFD}")
  text = text:gsub("\xC2[\x80-\x9F]", "\u{FFFD}") -- C1
  return (text:gsub("\xE2\x80[\xAA-\xAE]", "\u{FFFD}"):gsub("\xE2\x81[\xA6-\xA9]", "\u{FFFD}"))
end

--- A text on one line of at most so many characters.
---@param text string  UTF-8
---@param limit integer
---@return string
function M.line(text, limit)
  text = M.plain(text:gsub("%s+", " ")):match "^ ?(.-) ?$"
  if (utf8.len(text) or #text) <= limit then return text end
  return text:sub(1, (utf8.offset(text, limit) or limit) - 1) .. "…"
end

--- A number of bytes as people read it.
---@param bytes integer
---@return string  `"174.9 kB"`
function M.size(bytes)
  for _, unit in ipairs { { 1e9, "GB" }, { 1e6, "MB" }, { 1e3, "kB" } } do
    if bytes >= unit[1] then return ("%.1f %s"):format(bytes / unit[1], unit[2]) end
  end
  return bytes .. " B"
end

return M
