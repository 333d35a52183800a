local Deferred = { __close = function(deferred, err) deferred.action(err) end }

--- Makes the value of a `<close>` variable that does something when its block is left, in whatever way.
---@param action fun(err: any)  with the error that leaves the block, nil when there is none
---@return table
return function(action) return setmetatable({ action = action }, Deferred) end
