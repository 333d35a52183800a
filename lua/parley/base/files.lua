--- Private files: written whole or not at all, readable by nobody else.
local uv = require "luv"
local errors = require "parley.base.errors"

local M = {}

local ENTRIES_AT_ONCE = 256

--- What libuv says of a failure, without the code before it and the path behind it: our own message has both.
---@param problem string  `"ENOENT: no such file or directory: /a"`
---@return string
function M.reason(problem) return (problem:gsub("^E%w+: ", ""):gsub(": .*$", "")) end

local function parent_of(path) return path:match "^(.+)/[^/]+/*$" or path:sub(1, 1) == "/" and "/" or "." end

---@param path string
---@return boolean  links are followed
function M.is_folder(path)
  if path ~= "" and uv.fs_access(path .. "/.", "") then return true end -- in a fifth of the time; it may be denied
  local stat = uv.fs_stat(path)
  return stat ~= nil and stat.type == "directory"
end

local is_folder = M.is_folder

--- What keeps a folder from being made: the nearest thing on its path that exists.
local function obstacle(path, problem)
  local at, link = path, uv.fs_lstat(path)
  while not link and at ~= "/" and at ~= "." do
    at = parent_of(at)
    link = uv.fs_lstat(at)
  end
  local stat, _, code = uv.fs_stat(at)
  if code == "ENOENT" then return ("'%s' is a link to nothing"):format(at) end
  if code == "ELOOP" then return ("'%s' is a link that leads back to itself"):format(at) end
  if stat and stat.type ~= "directory" then return ("'%s' is a %s"):format(at, stat.type) end
  return ("%s in '%s'"):format(problem:match "^%u+: ([^:]+)" or problem, at)
end

local function make(path)
  local ok, problem, code = uv.fs_mkdir(path, 448)
  if ok or is_folder(path) then return true end
  local parent = parent_of(path)
  if code == "ENOENT" and #parent < #path and not is_folder(parent) then
    ok, problem, code = make(parent)
    -- Once more, and no more: in /proc a folder is missing whatever stands above it.
    if ok then ok, problem, code = uv.fs_mkdir(path, 448) end
  end
  if ok or is_folder(path) then return true end
  return nil, problem, code
end

--- Makes a folder and those above it, mode 0700.
---@param path string
---@return boolean? ok
---@return parley.Error? err  with the system's code; it names the path and what is in the way
function M.make_folder(path)
  if path:sub(-1) == "/" then path = path:gsub("(.)/+$", "%1") end
  local ok, problem, code = make(path)
  if ok then return true end
  return nil, errors.new(code or "EIO", ("cannot make the folder '%s': %s"):format(path, obstacle(path, problem)),
    { path = path })
end

--- Reads a file.
---@param path string
---@return string? text
---@return string? problem
function M.read(path)
  local file, problem = io.open(path, "rb")
  if not file then return nil, problem:sub(#path + 3) end -- what stands behind the path
  local text
  text, problem = file:read "a"
  file:close()
  return text, problem
end

local function write_all(descriptor, text)
  local offset = 0
  while offset < #text do
    local written, problem, code = uv.fs_write(descriptor, text:sub(offset + 1, offset + (1 << 20)), -1)
    if not written then return nil, problem, code end
    offset = offset + written
  end
  return true
end

local function cannot_write(path, problem, code)
  return errors.new(code or "EIO", ("cannot write '%s': %s"):format(path, M.reason(problem)), { path = path })
end

--- Begins what is then renamed to a path.
local function open_temporary(path)
  local temporary = ("%s.%d.tmp"):format(path, uv.os_getpid())
  local descriptor, problem, code = uv.fs_open(temporary, "wx", 384)
  if code == "EEXIST" then -- left by a process of the same number that was killed
    uv.fs_unlink(temporary)
    descriptor, problem, code = uv.fs_open(temporary, "wx", 384)
  end
  if not descriptor then error(cannot_write(path, problem, code), 0) end
  return descriptor, temporary
end

--- Gives a new file the mode of the one that it replaces. Where owner or group differ it would let others in.
local function keep_mode(descriptor, former)
  local own = uv.fs_fstat(descriptor)
  if own.uid == former.uid and own.gid == former.gid then uv.fs_fchmod(descriptor, former.mode & 511) end
end

--- Writes a file whole, mode 0600: under a temporary name beside it, then renamed.
---@param path string
---@param text string
---@param is_passing? boolean  it need not be there when the machine has failed: the disk is not waited for
---@param former? table  what `uv.fs_stat` says of a file whose mode it is to have
--- Raises an error with the system's code; nothing is left behind then.
function M.write(path, text, is_passing, former)
  local descriptor, temporary = open_temporary(path)
  local ok, problem, code = write_all(descriptor, text)
  if ok and former then keep_mode(descriptor, former) end
  if ok and not is_passing then ok, problem, code = uv.fs_fsync(descriptor) end
  uv.fs_close(descriptor)
  if ok then ok, problem, code = uv.fs_rename(temporary, path) end
  if ok then return end
  uv.fs_unlink(temporary)
  error(cannot_write(path, problem, code), 0)
end

--- Where the file stands that a person has named, whether it is written in its place, as a device is, and what is known
--- of the one that is there.
local function target_of(path)
  local found, link = uv.fs_stat(path), uv.fs_lstat(path)
  if not found and link and link.type == "link" then -- or it has been made meanwhile
    error(errors.value_error(("'%s' is a link to '%s', which is not there"):format(path, uv.fs_readlink(path))), 0)
  end
  return uv.fs_realpath(path) or path, found ~= nil and found.type ~= "file" and found.type ~= "directory",
    found
end

--- Tries whether `save` could write a file, and leaves nothing behind.
---@param path string  of no folder
--- Raises as `save` does.
function M.check_save(path)
  local target, is_in_place = target_of(path)
  if is_in_place then
    if uv.fs_access(target, "W") then return end
    error(cannot_write(path, "permission denied", "EACCES"), 0)
  end
  local descriptor, temporary = open_temporary(target)
  uv.fs_close(descriptor)
  uv.fs_unlink(temporary)
end

--- Writes the file that a person has named: through a link, and in its place what is no regular file, such as a device.
--- One that is replaced keeps its mode.
---@param path string
---@param text string
--- Raises an error with the system's code, or `ValueError` for a link that leads nowhere.
function M.save(path, text)
  local target, is_in_place, former = target_of(path)
  if not is_in_place then return M.write(target, text, false, former) end
  local ok, problem = M.put(path, text, "w")
  if not ok then error(cannot_write(path, problem), 0) end
end

--- Writes to a file where it stands, mode 0600 when it is new. What cannot be written whole may be there in part, but
--- for what is made only where nothing is.
---@param path string
---@param text string
---@param how "a"|"w"|"wx"  behind what is there, in its place, or only where nothing is
---@return boolean? ok
---@return string? problem
---@return string? code  the system's
function M.put(path, text, how)
  local descriptor, problem, code = uv.fs_open(path, how, 384)
  if not descriptor then return nil, problem, code end
  local ok
  ok, problem, code = write_all(descriptor, text)
  uv.fs_close(descriptor)
  if not ok and how == "wx" then uv.fs_unlink(path) end
  return ok, problem, code
end

--- How long a file is.
---@param path string
---@return integer? bytes  nil when nothing is there
function M.size(path)
  local found = uv.fs_stat(path)
  return found and found.size
end

--- What is in a folder, in no order; nothing when it is not there. Whoever reads folders asks here: what luv 1.44.2
--- has read by `fs_scandir` it keeps for ever.
---@param path string
---@return {name: string, type: string}[] entries  `type` as of `uv.fs_stat`, or `"unknown"`
---@return boolean is_whole  false when it could not be read, or not to its end
function M.entries(path)
  local entries, folder = {}, uv.fs_opendir(path, nil, ENTRIES_AT_ONCE)
  local is_whole = false
  while folder do
    local some, problem = uv.fs_readdir(folder)
    is_whole = not problem
    if not some then break end
    table.move(some, 1, #some, #entries + 1, entries)
  end
  if folder then uv.fs_closedir(folder) end
  return entries, is_whole
end

--- The names in a folder, sorted; none when it is not there.
---@param path string
---@return string[]
function M.names(path)
  local names = {}
  for i, entry in ipairs(M.entries(path)) do names[i] = entry.name end
  table.sort(names)
  return names
end

--- Makes a private temporary folder.
---@param name string  what its name begins with
---@param parent? string  default: the system's folder for such
---@return string path
--- Raises an error with the system's code.
function M.temporary_folder(name, parent)
  parent = parent or uv.os_tmpdir()
  local path, problem, code = uv.fs_mkdtemp(("%s/%s-XXXXXX"):format(parent, name))
  if not path then
    error(errors.new(code or "EIO", ("cannot make a folder in '%s': %s"):format(parent, M.reason(problem))), 0)
  end
  return path
end

--- Removes a file; one that is not there is no error.
---@param path string
function M.remove(path) uv.fs_unlink(path) end

--- Removes a folder and what is in it, or a file. Of a link only the link goes; what is not there is no error.
---@param path string
function M.remove_tree(path)
  path = path:gsub("(.)/+$", "%1") -- a link with a slash behind it would be the folder
  if uv.fs_unlink(path) then return end
  for _, entry in ipairs(M.entries(path)) do M.remove_tree(path .. "/" .. entry.name) end
  uv.fs_rmdir(path)
end

return M
