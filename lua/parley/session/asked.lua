--- Which calls permission dialogs are about, where the program calls back. `PreToolUse` tells of a call with its id;
--- `PermissionRequest`, right before a dialog is put up, tells its name and input and no id. Of several calls that are
--- asked about at once, any may come up first (2.1.197).
local core = require "parley.core"

local M = {}

---@class parley.Asked
---@field package told table[]      calls that were told of and not asked about yet, `tool_use` blocks
---@field package waiting table[]   what was asked about and not answered: `call`, where it is known; `is_doubtful`,
---                                when a dialog was answered that may have been its
local Asked = {}
Asked.__index = Asked
Asked.__name = "parley.Asked"

--- Makes what knows of no call.
---@return parley.Asked
function M.new() return setmetatable({ told = {}, waiting = {} }, Asked) end

local function identity(name, input) return core.json.encode({ name, input }, { sort_keys = true }) end

--- Takes in a call (`PreToolUse`).
---@param payload table
function Asked:tell(payload)
  table.insert(self.told, { type = "tool_use", id = payload.tool_use_id, name = payload.tool_name,
    input = payload.tool_input or {} })
end

--- Takes in that a dialog is about to come up (`PermissionRequest`).
---@param payload table
function Asked:announce(payload)
  local wanted = identity(payload.tool_name, payload.tool_input or {})
  for i, call in ipairs(self.told) do
    if identity(call.name, call.input) == wanted then
      return table.insert(self.waiting, { call = table.remove(self.told, i) })
    end
  end
  table.insert(self.waiting, {})
end

--- The call that the next dialog is about, when there is but one that it can be.
---@return table? call  a `tool_use` block
function Asked:only()
  local first = self.waiting[1]
  return #self.waiting == 1 and not first.is_doubtful and first.call or nil
end

--- The calls that wait, with others.
---@param others table[]  `tool_use` blocks
---@return table[]
function Asked:with(others)
  local list, has = {}, {}
  local function add(call)
    if not has[call.id or call] then table.insert(list, call) end
    has[call.id or call] = true
  end
  for _, call in ipairs(others) do add(call) end
  for _, entry in ipairs(self.waiting) do
    if entry.call then add(entry.call) end
  end
  return list
end

local function index_of(self, id)
  local unknown
  for i, entry in ipairs(self.waiting) do
    if id and entry.call and entry.call.id == id then return i end
    if not entry.call then unknown = unknown or i end
  end
  return unknown
end

--- Takes in that a dialog was answered. One that nobody had announced leaves the others in doubt.
---@param id? string  of the call; nil where it is not known
function Asked:answer(id)
  local index = index_of(self, id)
  if index then return table.remove(self.waiting, index) end
  for _, entry in ipairs(self.waiting) do entry.is_doubtful = true end
end

--- Takes in which calls are over: whoever has answered their dialogs.
---@param reported table<string, true>  the ids of all that the transcript has
---@param open table[]  those without a result
function Asked:settle(reported, open)
  local is_open = {}
  for _, call in ipairs(open) do is_open[call.id or false] = true end
  for i = #self.waiting, 1, -1 do
    local id = self.waiting[i].call and self.waiting[i].call.id
    if id and reported[id] and not is_open[id] then table.remove(self.waiting, i) end
  end
end

--- Forgets every call: they are of a turn before.
function Asked:forget() self.told, self.waiting = {}, {} end

return M
