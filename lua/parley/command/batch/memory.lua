--- What a batch knows of conversations that are over, and so which of them are not to be run. What stays in memory of
--- one is a hash of its id.
---
--- Lines are only ever added to an output while it is written. So there may be several about one conversation (that had
--- failed and was run again), of which the last one counts, and lines about what is in the input no longer: failures of
--- lines that were mended. `name_of` says which of them stay.
local core = require "parley.core"

local M = {}

---@class parley.batch.Memory
---@field verdicts table<string, "success"|"failed"|"met">  by the hash of an id; "met": in this run
---@field rejected table<integer, string>  lines of the input that were no conversations, with a hash of why; those that
---                                        this run has met are taken out
---@field retries_failed boolean
---@field has_read_all boolean   every line of the input was met
---@field package has_obsolete boolean
local Memory = {}
Memory.__index = Memory
Memory.__name = "parley.batch.Memory"

local function digest(text) return core.digest.blake2b(text, 16) end

--- Makes one that knows nothing yet.
---@param options? {retry_failed?: boolean}  conversations that have failed are run again
---@return parley.batch.Memory
function M.new(options)
  return setmetatable({ verdicts = {}, rejected = {}, has_read_all = false, has_obsolete = false,
    retries_failed = options ~= nil and options.retry_failed or false }, Memory)
end

--- Takes in a result that stands in the output.
---@param result {id: any, line: integer, verdict: string, error?: table}
function Memory:see(result)
  local known, key, value
  if result.id == core.json.null then
    local err = type(result.error) == "table" and result.error or {}
    known, key, value = self.rejected, result.line, digest(tostring(err.message))
  else
    known, key, value = self.verdicts, digest(tostring(result.id)), result.verdict
  end
  self.has_obsolete = self.has_obsolete or known[key] ~= nil
  known[key] = value
end

--- Meets a conversation of the input.
---@param id string|integer
---@return "success"|"failed"|"met"|nil known  how it ended in an earlier run; `"met"`: its id was on an earlier line;
---                                           nil when it is to be run
function Memory:meet(id)
  local key = digest(tostring(id))
  local known = self.verdicts[key]
  self.verdicts[key] = "met"
  if known ~= "failed" or not self.retries_failed then return known end
  self.has_obsolete = true
end

--- Meets a line of the input that is no conversation.
---@param line integer
---@param message string  why
---@return boolean stands  the output says so already
function Memory:meet_rejected(line, message)
  local known = self.rejected[line]
  self.rejected[line] = nil
  local stands = known == digest(message)
  self.has_obsolete = self.has_obsolete or known ~= nil and not stands
  return stands
end

--- Whether lines of the output are obsolete.
---@return boolean
function Memory:has_leftovers() return self.has_obsolete or self.has_read_all and next(self.rejected) ~= nil end

--- What a result of the output is about: of those about the same the last one counts.
---@param result {id: any, line: integer}
---@return string? name  nil when it is about nothing that is in the input
function Memory:name_of(result)
  if result.id ~= core.json.null then return digest(tostring(result.id)) end
  if self.has_read_all and self.rejected[result.line] then return nil end
  return "line " .. result.line
end

return M
