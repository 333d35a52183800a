-- What `make mutations` takes out is there to be taken out.
local mutations = require "spec.simulation.mutations"

describe("the mutations of the simulation", function()
  it("each have a text that stands in its file once, and make a chunk of it that can be loaded", function()
    assert.is_true(#mutations >= 40)
    for _, mutation in ipairs(mutations) do assert(load(mutations.apply(mutation)), mutation.what) end
  end)
end)
