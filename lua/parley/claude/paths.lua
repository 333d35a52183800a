--- Where `claude` keeps its files.
local uv = require "luv"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local core = require "parley.core"

local M = {}

--- The config folder: `$CLAUDE_CONFIG_DIR`, else `$HOME/.claude`.
---@param environment table<string, string>  the child's
---@param cwd? string  the child's, which a relative path starts from; default: the host's
---@return string
function M.config_folder(environment, cwd)
  local folder = environment.CLAUDE_CONFIG_DIR
  if folder and folder ~= "" then
    if cwd and folder:sub(1, 1) ~= "/" then folder = cwd .. "/" .. folder end
    return (folder:gsub("(.)/+$", "%1"))
  end
  return (environment.HOME or uv.os_homedir()) .. "/.claude"
end

--- UTF-16 code units of a text, as the program counts them.
local function utf16_units(text)
  local units = {}
  for _, code in utf8.codes(text, true) do
    if code > 0xFFFF then
      table.insert(units, 0xD800 + ((code - 0x10000) >> 10))
      table.insert(units, 0xDC00 + ((code - 0x10000) & 0x3FF))
    else
      table.insert(units, code)
    end
  end
  return units
end

local function base36(number)
  local digits = {}
  repeat
    local digit = number % 36
    table.insert(digits, 1, string.char(digit < 10 and 48 + digit or 87 + digit))
    number = number // 36
  until number == 0
  return table.concat(digits)
end

--- Sessions come one after the other in the same folder.
local last_path, last_name

--- The name of a working directory's folder under `projects/`: each UTF-16 unit outside `[A-Za-z0-9]` is a `-`; past
--- 200 units, the first 200 and a hash of the whole (measured on 2.1.330 and older).
---@param path string  a real path, in UTF-8
---@return string
function M.encode_project(path)
  if path == last_path then return last_name end
  local units = utf16_units(utf8.len(path) and path or path:gsub("[\x80-\xff]", "?"))
  local encoded, hash = {}, 0
  for i, unit in ipairs(units) do
    local char = unit < 128 and string.char(unit)
    encoded[i] = char and char:match "[A-Za-z0-9]" or "-"
    hash = (hash * 31 + unit) & 0xFFFFFFFF
  end
  local name = table.concat(encoded)
  if hash >= 0x80000000 then hash = 0x100000000 - hash end
  if #name > 200 then name = name:sub(1, 200) .. "-" .. base36(hash) end
  last_path, last_name = path, name
  return name
end

--- The real path of a folder.
---@param folder? string  default: the working directory
---@return string
--- Raises `ValueError` when there is no such folder.
function M.real_folder(folder)
  folder = folder or uv.cwd() or "." -- that of the host may have been removed
  local path, problem = uv.fs_realpath(folder)
  if not path then
    error(errors.value_error(("the working directory '%s' cannot be used: %s"):format(folder, files.reason(problem)),
      { option = "cwd" }), 0)
  end
  if uv.fs_stat(path).type ~= "directory" then
    error(errors.value_error(("the working directory '%s' is not a folder"):format(folder), { option = "cwd" }), 0)
  end
  return path
end

--- The folder that holds the transcripts of a working directory.
---@param cwd? string
---@param environment? table<string, string>  the child's; default: the host's
---@return string
function M.project_folder(cwd, environment)
  local folder = M.real_folder(cwd)
  return M.config_folder(environment or uv.os_environ(), folder) .. "/projects/" .. M.encode_project(folder)
end

--- The transcript of a session.
---@param session_id string  a UUID, so that it cannot name another path
---@param cwd? string        the session's working directory; default: the host's
---@param environment? table<string, string>  the child's; default: the host's
---@return string path
--- Raises `ValueError` for what is not a UUID or not a folder.
function M.resolve_jsonl_path(session_id, cwd, environment)
  if type(session_id) ~= "string" or not core.uuid.is_valid(session_id) then
    error(errors.value_error(("a session id must be a UUID, not %s"):format(tostring(session_id))), 0)
  end
  return ("%s/%s.jsonl"):format(M.project_folder(cwd, environment), session_id)
end

--- Where the program has moved a transcript to: when the model enters a worktree it goes to that folder's, and back
--- when it leaves that (2.1.332). `--resume` in the first folder finds it there.
---@param jsonl_path string
---@return string? path  nil while it is in its place, and where it is nowhere
function M.moved_to(jsonl_path)
  local projects, name = jsonl_path:match "^(.*/projects)/[^/]+/([^/]+%.jsonl)$"
  if not projects or uv.fs_stat(jsonl_path) then return nil end
  for _, folder in ipairs(files.names(projects)) do
    local path = ("%s/%s/%s"):format(projects, folder, name)
    if uv.fs_stat(path) then return path end
  end
end

local function parent_of(path)
  return path:match "^(.+)/+[^/]+/*$" or path:sub(1, 1) == "/" and "/" or "."
end

--- What a disk must have left: one that is all but full takes one record and not the next.
local LEAST_BYTES = 64 * 1024

--- Whether a disk has no space for more. One that tells no size (there are such) has none to run out of.
local function is_full(path)
  local disk = uv.fs_statfs(path)
  if not disk or disk.blocks == 0 then return false end
  local free = uv.getuid() == 0 and disk.bfree or disk.bavail -- the superuser's reserve
  return free * disk.bsize < LEAST_BYTES
end

--- Why a transcript cannot be written where it should be. The program makes folders that are missing; where it cannot
--- write, it goes on without a word.
---@param jsonl_path string
---@return string? problem  names the file or folder that is in the way; nil when there is none
function M.transcript_problem(jsonl_path)
  local path = jsonl_path
  local found = uv.fs_stat(path)
  while not found and not uv.fs_lstat(path) and #parent_of(path) < #path do
    path = parent_of(path)
    found = uv.fs_stat(path)
  end
  found = found or uv.fs_stat(path) -- another program may have made it just now
  local is_file = path == jsonl_path
  if not found then return ("'%s' is a link that leads nowhere"):format(path) end
  if is_file and found.type ~= "file" then return ("'%s' is not a file"):format(path) end
  if not is_file and found.type ~= "directory" then return ("'%s' is not a folder"):format(path) end
  local problem = not uv.fs_access(path, is_file and "W" or "WX") and "the %s '%s' may not be written"
    or is_full(path) and "there is no space left on the disk of the %s '%s'"
  return problem and problem:format(is_file and "file" or "folder", path) or nil
end

--- Why the program cannot write the file that its editor gets: it opens none then, without a word (2.1.110 to 2.1.332).
---@param environment table<string, string>  the program's
---@param cwd string                          and where it works
---@return string? problem
function M.scratch_problem(environment, cwd)
  local folder = environment.TMPDIR ~= "" and environment.TMPDIR or "/tmp"
  if folder:sub(1, 1) ~= "/" then folder = cwd .. "/" .. folder end
  if not uv.fs_stat(folder) then return ("there is no folder '%s'"):format(folder) end
  return M.transcript_problem(("%s/claude-%d/claude-prompt.md"):format(folder, uv.getuid()))
end

--- The status file that 2.1.110 and later keep for a process.
---@param pid integer
---@param environment table<string, string>  the child's
---@return string path
function M.status_file(pid, environment)
  return ("%s/sessions/%d.json"):format(M.config_folder(environment), pid)
end

--- The names on a full path, without those that lead back.
local function names_on(path)
  local names = {}
  for name in path:gmatch "[^/]+" do
    if name == ".." then
      table.remove(names)
    elseif name ~= "." then
      table.insert(names, name)
    end
  end
  return names
end

--- The path of a file relative to a folder, as the prompts of Write and Edit have it: `"sub/new.txt"`,
--- `"../other/old.txt"` (2.1.110, 2.1.197, 2.1.332).
---@param folder string  a full path
---@param path string    one that is relative stays what it is
---@return string
function M.relative(folder, path)
  if path:sub(1, 1) ~= "/" then return path end
  local here, there, same, names = names_on(folder), names_on(path), 0, {}
  while here[same + 1] and here[same + 1] == there[same + 1] do same = same + 1 end
  for i = 1, #here - same do names[i] = ".." end
  return table.concat(table.move(there, same + 1, #there, #names + 1, names), "/")
end

return M
