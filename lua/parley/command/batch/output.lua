--- The results of a batch: one line of JSON a conversation, written whole or not at all.
---
--- The file itself is the journal: what stands in it is over and done, whatever happens to this process. A line is one
--- write. What a kill or a full disk leaves of one is cut off: at once when this process still can, else by the next
--- that resumes. Of several lines about one conversation the last one counts.
local uv = require "luv"
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local lines = require "parley.command.batch.lines"
local lock = require "parley.command.batch.lock"
local stdout = require "parley.command.stdout"

local M = {}

local json = core.json
local STDOUT = 1
--- So many bytes tell whether a file begins as an output does.
local BEGINNING = 4096

--- The order of a line's fields: what people look at first stands first.
local FIELDS = { "id", "line", "verdict", "error", "attempts", "started_at", "duration_ms", "turn_ms", "usage",
  "cost_usd", "value", "result", "metadata", "messages" }

---@class parley.batch.Output
---@field name string
---@field size integer  bytes of whole lines
local Output = {}
Output.__index = Output
Output.__name = "parley.batch.Output"

local function system_error(self, action, problem, code)
  return errors.new(code or "EIO", ("cannot %s '%s': %s"):format(action, self.name, files.reason(problem)),
    { path = self.name })
end

--- Makes the line of a result.
---@param result table
---@return string? line  with its line feed
---@return parley.Error? err
function M.line_of(result)
  local parts = {}
  for _, name in ipairs(FIELDS) do
    local value = result[name]
    if value ~= nil then
      local text, err = json.encode(value, { sort_keys = true })
      if not text then return nil, err end
      table.insert(parts, ('"%s":%s'):format(name, text))
    end
  end
  return "{" .. table.concat(parts, ",") .. "}\n"
end

--- Opens the file for results, or standard output for `-`. A file that holds some is refused unless it is resumed.
---@param path string
---@param options? {resume?: boolean}
---@return parley.batch.Output  a `<close>` variable
--- Raises `ValueError`, `EBUSY` when another process writes it, or an error with the system's code.
function M.open(path, options)
  local is_resumed = options and options.resume or false
  if path == "-" then
    if is_resumed then
      error(errors.value_error "--resume and --retry-failed need a file of results: give --output", 0)
    end
    return setmetatable({ name = "standard output", descriptor = STDOUT }, Output)
  end
  local self = setmetatable({ name = path }, Output)
  local problem, code
  self.descriptor, problem, code = uv.fs_open(path, "a+", 438) -- 0666: the user's umask decides
  if not self.descriptor then error(system_error(self, "write", problem, code), 0) end
  local _ <close> = defer(function(err)
    if err then self:close() end
  end)
  local stat = uv.fs_fstat(self.descriptor)
  if stat.type ~= "file" then
    if is_resumed then error(errors.value_error(("'%s' is no file that can be resumed"):format(path)), 0) end
    return self
  end
  self.lock = lock.take(path)
  self.size = uv.fs_fstat(self.descriptor).size
  if self.size > 0 and not is_resumed then
    local message = M.begins_result(uv.fs_read(self.descriptor, BEGINNING, 0) or "")
      and "'%s' holds results already: give --resume to go on with them, or another name"
      or "'%s' is there already and is no output of a batch: give another name"
    error(errors.value_error(message:format(path)), 0)
  end
  return self
end

local function cut(self, size)
  local ok, problem, code = uv.fs_ftruncate(self.descriptor, size)
  if not ok then error(system_error(self, "cut a half-written line off", problem, code), 0) end
end

--- Whether a line's value is a result of a batch.
---@param value any
---@return boolean
function M.is_result(value)
  return type(value) == "table" and value.id ~= nil and math.type(value.line) == "integer"
    and (value.verdict == "success" or value.verdict == "failed")
end

--- Whether bytes are how a result's line begins, cut off anywhere. A machine that lost its power may leave zeros.
---@param bytes string
---@return boolean
function M.begins_result(bytes)
  local head, rest = '{"id":', (bytes:match "^.*[^\0]" or ""):gsub("\\.", "__")
  if #rest <= #head then return head:sub(1, #rest) == rest end
  if rest:sub(1, #head) ~= head then return false end
  rest = rest:sub(#head + 1)
  if rest:find '^"[^"]*$' then return true end
  local behind, following = rest:match '^"[^"]*"(.*)$' or rest:match "^[%w-]+(.*)$", ',"line":'
  return behind ~= nil and behind:sub(1, #following) == following:sub(1, #behind)
end

local function refuse(self, number)
  error(errors.value_error(("'%s' cannot be resumed: its line %d is no result of a batch"):format(
    self.name, number)), 0)
end

--- Reads the results that stand in the file, and cuts off a half-written last line.
---@param visit fun(result: table)  called with each
---@param warn fun(text: string)    called for what was cut off
--- Raises `ValueError` when the file holds something else, which is left as it is, or an error with the system's code.
function Output:replay(visit, warn)
  local reader = lines.of_descriptor(self.descriptor, self.name)
  local whole = 0
  for line, has_break in function() return reader:next() end do
    local result = json.decode(line)
    if M.is_result(result) then
      if not has_break then self:write "\n" end
      whole = reader.offset + (has_break and 0 or 1)
      visit(result)
    elseif not line:find "%S" then
      whole = reader.offset
    elseif has_break or result ~= nil or not M.begins_result(line) then
      refuse(self, reader.number)
    else
      warn(("cut %d bytes of a half-written line off '%s'"):format(#line, self.name))
      cut(self, whole)
    end
  end
  self.size = whole
end

--- The results of the file with their lines, for the generic `for`.
local function each(reader)
  return function()
    local line
    repeat line = reader:next() until line == nil or line:find "%S"
    return line, line and json.decode(line)
  end
end

local function write_survivors(self, path, name_of)
  local last, number = {}, 0
  do
    local reader <close> = lines.open(path)
    for _, result in each(reader) do
      number = number + 1
      local name = name_of(result)
      if name then last[name] = number end
    end
  end
  local reader <close> = lines.open(path)
  number = 0
  for line, result in each(reader) do
    number = number + 1
    if last[name_of(result) or false] == number then self:write(line .. "\n") end
  end
end

--- Writes the file anew with only the last of the results that are about the same. It is written beside the old one
--- and then put in its place, so that whenever this process is killed one of the two is there, whole.
---@param name_of fun(result: table): string?  what a result is about; nil when it shall go
--- Raises an error with the system's code; the file is as it was then.
function Output:keep_last(name_of)
  local path = assert(uv.fs_realpath(self.name))
  local stat = uv.fs_fstat(self.descriptor)
  local other <close> = setmetatable({ name = lock.stem(path) .. ".parley-tmp" }, Output)
  local _ <close> = defer(function(err)
    if err then uv.fs_unlink(other.name) end
  end)
  local function check(what, result, problem, code)
    if not result then error(system_error(other, what, problem, code), 0) end
    return result
  end
  uv.fs_unlink(other.name) -- left by a process that was killed
  other.descriptor = check("write", uv.fs_open(other.name, "wx", 384))
  write_survivors(other, path, name_of)
  check("write", uv.fs_fchmod(other.descriptor, stat.mode & 4095))
  check("write", uv.fs_fsync(other.descriptor))
  check("rename", uv.fs_rename(other.name, path))
  uv.fs_close(self.descriptor)
  self.descriptor, other.descriptor = other.descriptor, nil
  self.size = uv.fs_fstat(self.descriptor).size
end

--- Writes bytes behind the last whole line, all of them or none.
---@param bytes string
--- Raises an error with the system's code (`ENOSPC`, `EFBIG`, `EPIPE`, …).
function Output:write(bytes)
  if self.descriptor == STDOUT then return stdout.write(bytes) end
  local offset = 0
  while offset < #bytes do
    local written, problem, code = uv.fs_write(self.descriptor, offset == 0 and bytes or bytes:sub(offset + 1), -1)
    if not written then
      if self.size and offset > 0 then cut(self, self.size) end
      error(system_error(self, "write", problem, code), 0)
    end
    offset = offset + written
  end
  if self.size then self.size = self.size + #bytes end
end

--- Adds the line of a result. One that cannot be spelled as JSON is written as failed, without its conversation.
---@param result table
--- Raises as `write` does.
function Output:append(result)
  local line, err = M.line_of(result)
  if not line then
    result.verdict, result.result, result.metadata, result.messages = "failed", nil, nil, json.array {}
    result.error = { code = err.code, message = "the result cannot be written: " .. err.message }
    line = assert(M.line_of(result))
  end
  self:write(line)
end

--- Lets go of the file. A second call does nothing.
function Output:close()
  if self.lock then self.lock.close() end
  if self.descriptor and self.descriptor > 2 then uv.fs_close(self.descriptor) end
  self.lock, self.descriptor = nil, nil
end

Output.__close = Output.close

return M
