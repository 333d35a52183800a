--- The list of commands that pops up over a slash and a part of a name, and what Return chooses from it.
local M = {}

---@class parley.testing.CommandList
---@field names string[]    what it offers, what fits best first
---@field chosen? string    what Return runs in the place of what was typed

local function begins_with(name, part) return name:sub(1, #part) == part end

--- Whether a name has the letters that were typed, in their order.
local function is_near(name, typed)
  local at = 0
  for letter in typed:gmatch "." do
    at = name:find(letter, at + 1, true)
    if not at then return false end
  end
  return true
end

--- Finds what is offered for a text.
---@param text string   that the composer holds
---@param known table<string, table>  commands, by their names
---@param profile parley.testing.Profile
---@return parley.testing.CommandList? list  nil where none pops up
function M.find(text, known, profile)
  local typed = text:match "^/([%w:_-]+)$"
  if not typed then return nil end
  typed = typed:lower()
  local begun, near = {}, {}
  for name in pairs(known) do
    if begins_with(name, typed) then
      table.insert(begun, name)
    elseif is_near(name, typed) or profile.chooses_nearest_command and begins_with(typed, name) then
      table.insert(near, name)
    end
  end
  table.sort(begun) -- a name that is whole is the first
  table.sort(near)
  local names = table.move(near, 1, #near, #begun + 1, begun)
  local is_chosen = profile.chooses_nearest_command or names[1] ~= nil and begins_with(names[1], typed)
  return names[1] and { names = names, chosen = is_chosen and names[1] or nil }
end

--- The names of the arguments that are missing, as they are shown behind a command.
---@param text string   that the composer holds
---@param known table<string, table>
---@param profile parley.testing.Profile
---@return string  "" where there are none to be shown
function M.hint(text, known, profile)
  local name, rest = text:match "^/([%w:_-]+) (.*)$"
  local arguments = name and known[name] and known[name].arguments or {}
  if not arguments[1] or not text:find " $" or rest ~= "" and not profile.names_rest_of_arguments then return "" end
  local count, names = select(2, rest:gsub("%S+", "")), {}
  for i = count + 1, #arguments do table.insert(names, ("[%s]"):format(arguments[i])) end
  return names[1] and " " .. table.concat(names, " ") or ""
end

return M
