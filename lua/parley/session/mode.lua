--- Whether the program has taken the permission mode that it was given: settings may forbid it, and it says so on the
--- screen alone.
local M = {}

--- What it may be in instead (2.1.110 to 2.1.332). Into another mode it has gone later: `/plan` for one.
local FALLBACKS = { auto = true, default = true }
local FORBIDDEN_BY = { bypassPermissions = "disableBypassPermissionsMode", auto = "disableAutoMode" }

--- The mode that it was given; nil where that is a matter of the caller's own words.
local function wanted_of(process)
  for _, word in ipairs(process.set and process.set.extra_args or {}) do
    if word:find "^%-%-permission%-mode" then return nil end
  end
  return process.permission_mode
end

--- What is to be told of the mode that the first message was taken in.
---@param process parley.Process
---@param has any  by the record of the message: that of the mode is written late where a session goes on
---@return {wanted: string, has: string, message: string}?
function M.lack(process, has)
  local wanted = wanted_of(process)
  local forbidden_by = FORBIDDEN_BY[wanted]
  if not forbidden_by or not FALLBACKS[has] or has == wanted then return nil end
  return { wanted = wanted, has = has, message = ("the program is in the permission mode '%s' and not in '%s': the "
    .. "settings forbid that (permissions.%s), it is not to be had here, or somebody has changed it at the terminal")
    :format(has, wanted, forbidden_by) }
end

return M
