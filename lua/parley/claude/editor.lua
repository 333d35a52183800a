--- The editor door: on Ctrl-G the program writes what its composer holds to a file, runs `$VISUAL` on it, waits for
--- that and takes what then stands in the file into the composer, verbatim on every version (2.1.110 to 2.1.332).
---
--- The editor is a few lines of shell, in a private folder. They serve the program alone, known by its process id, and
--- its own prompt file alone; for all else that finds `$VISUAL` in its environment (`git commit` in a tool call), they
--- become the user's editor.
local uv = require "luv"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local kernel = require "parley.claude.kernel"
local mark = require "parley.base.mark"

local M = {}

--- The key that opens it, unless the user's `keybindings.json` has it do something else.
M.key = "\7"

--- The program cuts `$VISUAL` at its spaces, and knows no quotes.
local SAFE = "^[%w/._-]+$"

--- Where the kernel tells nothing of a folder, it is looked at as often. Only while a text is offered.
local LOOK_MS = 10

--- The file that the program writes, and its editor's only argument.
local SERVE = [[
# Stands in the place of the user's editor for a program that Parley runs.
folder=${0%/*}
if [ "$PPID" = "$(cat "$folder/pid" 2>&1)" ]; then
  case $#:$1 in
  1:*/claude-prompt-*.md)
    [ -f "$folder/message" ] || exit 0
    umask 077
    cp "$1" "$folder/before" && cp "$folder/message" "$1" && rm "$folder/message"
    exit
  esac
fi
]]
local USE_VISUAL = [[
VISUAL=%s
export VISUAL
eval "exec $VISUAL \"\$@\""
]]
local USE_EDITOR = [[
unset VISUAL
[ -z "$EDITOR" ] || eval "exec $EDITOR \"\$@\""
command -v editor > /dev/null && exec editor "$@"
exec vi "$@"
]]

local function quoted(word) return ("'%s'"):format((word:gsub("'", "'\\''"))) end

--- The shell's lines.
---@param visual? string  what `$VISUAL` is for the user
---@return string
function M.script(visual)
  local is_set = visual and visual:find "%S" ~= nil
  return SERVE .. (is_set and USE_VISUAL:format(quoted(visual)) or USE_EDITOR)
end

---@class parley.Editor
---@field visual string           what `$VISUAL` is to be for the program
---@field private folder string
---@field private on_change fun()
---@field private watch? userdata|parley.Timer  while a text is offered
local Editor = {}
Editor.__index = Editor
Editor.__name = "parley.Editor"

--- A private folder on whose path there is nothing that the program would cut.
local function private_folder(environment)
  local tried = {}
  for _, parent in ipairs { uv.os_tmpdir(), environment.XDG_RUNTIME_DIR or "", "/tmp", "/dev/shm" } do
    if parent:find(SAFE) then
      local ok, folder = pcall(mark.folder, "editor", parent)
      if ok then return folder end
      table.insert(tried, errors.text(folder))
    elseif parent ~= "" then
      table.insert(tried, ("the program would not find an editor in '%s'"):format(parent))
    end
  end
  return nil, table.concat(tried, "; ")
end

--- Makes the editor of a program that is about to be started.
---@param environment table<string, string>  of the program
---@param on_change fun()  called when the program may have taken what was offered
---@return parley.Editor? editor
---@return string? why  there can be none
function M.new(environment, on_change)
  local folder, why = private_folder(environment)
  if not folder then return nil, why end
  local ok, problem = pcall(files.write, folder .. "/editor", M.script(environment.VISUAL), true)
  if not ok then
    files.remove_tree(folder)
    return nil, errors.text(problem)
  end
  -- Through the shell, for programs may not be run from every file system.
  return setmetatable({ folder = folder, visual = ("/bin/sh %s/editor"):format(folder), on_change = on_change }, Editor)
end

--- Serves this process, and no other, from now on.
---@param pid integer
function Editor:serve(pid) files.write(self.folder .. "/pid", tostring(pid), true) end

local function stop_watching(self)
  if self.watch then self.watch:close() end
  self.watch = nil
end

--- Has a text ready for when the program opens the editor.
---@param text string
--- Raises an error with the system's code.
function Editor:offer(text)
  files.write(self.folder .. "/message", text, true)
  if self.watch then return end
  self.watch = kernel.new_watch()
  if self.watch:start(self.folder, {}, function() self.on_change() end) then return end
  self.watch:close()
  self.watch = clock.every(LOOK_MS, self.on_change)
end

--- What the composer held before the program took what was offered.
---@return string? text  nil while it has not taken it
function Editor:taken()
  if uv.fs_stat(self.folder .. "/message") then return nil end
  return files.read(self.folder .. "/before")
end

--- Offers nothing more: the editor leaves the file as it is.
function Editor:withdraw()
  stop_watching(self)
  files.remove(self.folder .. "/message")
  files.remove(self.folder .. "/before")
end

--- Removes its folder. A second call does nothing.
function Editor:close()
  stop_watching(self)
  files.remove_tree(self.folder)
end

return M
