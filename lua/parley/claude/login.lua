--- The login of the program, as far as the environment decides it, and what to do where there is none.
local uv = require "luv"
local launch = require "parley.claude.launch"

local M = {}

local LOG_IN = "run `claude` once and log in"
--- Each of these is a login by itself.
local VARIABLES = { "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK",
  "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_USE_GATEWAY",
  "CLAUDE_CODE_USE_ANTHROPIC_AWS", "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD" }

--- The variable of the host's environment that would be a login and is kept from the program.
---@param environment table<string, string>       the program's
---@param host_environment table<string, string>
---@return string? name
function M.kept(environment, host_environment)
  for _, name in ipairs(VARIABLES) do
    if (host_environment[name] or "") ~= "" and environment[name] == nil then return name end
  end
end

--- What to do about a missing login.
---@param kept? string  see `kept`
---@return string
function M.remedy(kept)
  return kept and "preserve_provider_env = true (--preserve-provider-env), or " .. LOG_IN or LOG_IN
end

--- Adds to the result of a turn that failed for want of a login what to do about it: nobody can type /login here.
---@param result parley.Event
---@param set table  the options of the process
function M.explain(result, set)
  local text = type(result.message) == "string" and result.message or ""
  -- "Not logged in · Please run /login" on 2.1.110 to 2.1.331, with this error.
  if result.error ~= "authentication_failed" or not text:find("/login", 1, true) then return end
  local kept = M.kept(launch.environment(set), set.base_env or uv.os_environ())
  result.message = ("%s (%s%s)"):format(text, kept and kept .. " is kept from claude: " or "", M.remedy(kept))
end

return M
