-- A routing policy: the tag of a request picks the model and the folder.
--
--   backend = parley.backend { policies = { routing = "scripts/examples/route_by_tag.lua" } }
--   backend:complete(messages, { tag = "review" })
local parley = require "parley"

local ROUTES = {
  quick = { model = "haiku" },
  review = { model = "opus", append_system_prompt = "You review code. Answer in one paragraph." },
  docs = { model = "sonnet", cwd = "/usr/share/doc" },
}

local M = {}

--- The key stays the history's fingerprint; Parley never mixes sessions with different options.
function M.route(request)
  local options = request.tag and ROUTES[request.tag]
  if request.tag and not options then return nil, ("there is no tag '%s'"):format(request.tag) end
  return { key = parley.hash_history(request.history), options = options }
end

return M
