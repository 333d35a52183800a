--- The public door to structured concurrency: see base/task.lua.
return require "parley.base.task"
