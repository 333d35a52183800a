local usage = require "parley.base.usage"

describe("usage", function()
  it("is added up by name, and is tokens alone", function()
    local total = usage.add({ output_tokens = 1 }, { output_tokens = 2, input_tokens = 3, service_tier = "standard",
      cache_creation = { ephemeral_5m_input_tokens = 1 }, share = 0.5 })
    assert.same({ output_tokens = 3, input_tokens = 3 }, total)
    assert.equal(total, usage.add(total, nil))
  end)

  it("keeps a cost unknown until one is known", function()
    assert.is_nil(usage.add_cost(nil, nil))
    assert.equal(0.5, usage.add_cost(nil, 0.5))
    assert.equal(0.75, usage.add_cost(0.5, 0.25))
    assert.equal(0.5, usage.add_cost(0.5, nil))
  end)
end)
