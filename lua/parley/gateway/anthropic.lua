--- How the Messages API puts a reply into bytes.
local core = require "parley.core"
local problems = require "parley.gateway.problems"

local M = { is_openai = false }

local function encoded(value) return assert(core.json.encode(value)) end

--- A whole answer.
---@param reply parley.gateway.Reply
---@return table
function M.whole(reply) return reply:whole() end

M.problem = problems.anthropic

---@class parley.gateway.Writer
---@field item fun(data: table)     sends what an item of a reply becomes
---@field ping fun()
---@field fail fun(problem: parley.gateway.Problem)
---@field finish fun()

--- What sends a reply as a stream.
---@param response parley.http.Response
---@param given {id: string}
---@return parley.gateway.Writer
function M.writer(response, given)
  return {
    item = function(data) response:event(data.type, encoded(data)) end,
    ping = function() response:event("ping", '{"type":"ping"}') end,
    fail = function(problem) response:event("error", encoded(problems.anthropic(problem, given.id))) end,
    finish = function() end,
  }
end

return M
