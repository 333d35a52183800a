--- The private plugin folder of a session (`--plugin-dir`): it tells the program whom to call, beside the user's own
--- settings, which stay as they are.
local core = require "parley.core"
local files = require "parley.base.files"
local mark = require "parley.base.mark"

local M = {}

--- As long as anybody may think about a call.
local TIMEOUT_S = 24 * 60 * 60

--- Of two plugins of one name the program knows the hooks of the first only (2.1.110 to 2.1.332).
local function new_name() return "parley-" .. core.uuid.generate() end

local function write_json(path, value)
  files.write(path, assert(core.json.encode(value, { sort_keys = true })), true)
end

--- Writes the folder.
---@param given {url: string, events: string[]}
---@return string path  mode 0700
--- Raises the system's error; nothing is left behind then.
function M.write(given)
  local folder = mark.folder "plugin"
  local ok, problem = pcall(function()
    assert(files.make_folder(folder .. "/.claude-plugin"))
    assert(files.make_folder(folder .. "/hooks"))
    write_json(folder .. "/.claude-plugin/plugin.json", { name = new_name(), version = "1.0.0",
      description = "Parley listens to this session." })
    local hooks = {}
    for _, event in ipairs(given.events) do
      hooks[event] = { { hooks = { { type = "http", url = given.url .. "hooks/" .. event, timeout = TIMEOUT_S } } } }
    end
    write_json(folder .. "/hooks/hooks.json", { hooks = hooks })
  end)
  if ok then return folder end
  files.remove_tree(folder)
  error(problem, 0)
end

--- Removes it.
---@param path string
function M.remove(path) files.remove_tree(path) end

return M
