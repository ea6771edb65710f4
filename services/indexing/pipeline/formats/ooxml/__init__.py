"""What documents of Office Open XML (ECMA-376) have in common: the package, diagrams and charts."""
