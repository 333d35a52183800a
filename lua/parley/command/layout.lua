--- How help is laid out: as wide as the terminal, but no wider than is read well. No word is cut in two.
local uv = require "luv"

local M = {}

local DEFAULT, LEAST, MOST = 80, 20, 100
--- Below this many columns a description stands under what it describes, and not beside it.
local SIDE_BY_SIDE = 60

local function terminal_width()
  if uv.guess_handle(1) ~= "tty" then return nil end
  local terminal = uv.new_tty(1, false)
  local columns = terminal and terminal:get_winsize()
  if terminal then terminal:close() end
  return math.tointeger(columns)
end

--- The columns that help may take: those of `COLUMNS`, else of the terminal, else 80.
---@return integer width  at most 100
function M.width()
  local columns = math.tointeger(tonumber(os.getenv "COLUMNS"))
  if not columns or columns <= 0 then columns = terminal_width() end
  if not columns or columns <= 0 then columns = DEFAULT end
  return math.max(LEAST, math.min(MOST, columns))
end

--- Whether descriptions have room beside what they describe.
---@param width integer
---@return boolean
function M.is_wide(width) return width >= SIDE_BY_SIDE end

--- Puts words on lines.
---@param words string[]
---@param width integer
---@param options? {first?: string, indent?: string, ending?: string}  what the first line begins with, and the others;
---       what a line that goes on ends with
---@return string
local function fill(words, width, options)
  local line, lines = options.first or "", {}
  local indent, ending = options.indent or "", options.ending or ""
  local is_empty = true
  for i, word in ipairs(words) do
    local room = width - (i < #words and utf8.len(ending) or 0)
    if not is_empty and utf8.len(line) + 1 + utf8.len(word) > room then
      table.insert(lines, line .. ending)
      line, is_empty = indent, true
    end
    line = line .. (is_empty and "" or " ") .. word
    is_empty = false
  end
  table.insert(lines, line)
  return table.concat(lines, "\n")
end

local function words_of(text)
  local words = {}
  for word in text:gmatch "%S+" do table.insert(words, word) end
  return words
end

--- Wraps paragraphs. A paragraph is a line.
---@param text string
---@param width integer
---@return string
function M.prose(text, width)
  return (text:gsub("[^\n]+", function(line) return fill(words_of(line), width, {}) end))
end

--- Two columns: names and what they are.
---@param rows string[][]
---@param width integer
---@param indent string  in front of a name
---@return string
function M.table(rows, width, indent)
  local widest, lines = 0, {}
  for _, row in ipairs(rows) do widest = math.max(widest, utf8.len(row[1])) end
  for i, row in ipairs(rows) do
    local name = indent .. row[1]
    if M.is_wide(width) then
      name = name .. (" "):rep(widest - utf8.len(row[1]) + 2)
      lines[i] = fill(words_of(row[2]), width, { first = name, indent = (" "):rep(utf8.len(name)) })
    else
      local below = indent .. "    "
      lines[i] = name .. "\n" .. fill(words_of(row[2]), width, { first = below, indent = below })
    end
  end
  return table.concat(lines, "\n")
end

--- A usage line. An option stays on one line with what it takes.
---@param text string
---@param width integer
---@return string
function M.usage(text, width)
  local words = words_of(text:gsub("%b[]", function(option) return (option:gsub(" ", "\0")) end))
  return (fill(words, width, { indent = M.is_wide(width) and "       " or "    " }):gsub("%z", " "))
end

--- The words of a shell's line; quotes hold one together.
local function shell_words(line)
  local words, word, quote = {}, "", nil
  for char in (line .. " "):gmatch(utf8.charpattern) do
    if quote then
      if char == quote then quote = nil end
    elseif char == "'" or char == '"' then
      quote = char
    end
    if char ~= " " or quote then
      word = word .. char
    elseif word ~= "" then
      table.insert(words, word)
      word = ""
    end
  end
  return words
end

--- An option and what it takes, where a line has room for both.
local function with_values(words, room)
  local joined = {}
  for _, word in ipairs(words) do
    local before = joined[#joined]
    local is_value = before and before:find "^%-%-?%a[%w-]*$" and word:find "^[^-|>&]"
    if is_value and utf8.len(before) + 1 + utf8.len(word) <= room then
      joined[#joined] = before .. " " .. word
    else
      table.insert(joined, word)
    end
  end
  return joined
end

--- Lines of a shell, which stay such that can be copied: a long one is continued behind a backslash, and its comment
--- goes before it.
---@param text string
---@param width integer
---@return string
function M.shell(text, width)
  return (text:gsub("[^\n]+", function(line)
    if utf8.len(line) <= width then return line end
    local indent, command, comment = line:match "^( *)(.-) *(#? ?[^#]*)$"
    if comment:sub(1, 1) ~= "#" then command, comment = line:sub(#indent + 1), nil end
    local above = comment and fill(words_of(comment), width, { first = indent, indent = indent .. "# " }) .. "\n" or ""
    if command == "" then return (above:gsub("\n$", "")) end
    local deeper, ending = indent .. "  ", " \\"
    local words = with_values(shell_words(command), width - #deeper - #ending)
    return above .. fill(words, width, { first = indent, indent = deeper, ending = ending })
  end))
end

return M
